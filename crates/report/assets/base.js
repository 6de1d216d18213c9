"use strict";
// What the other scripts share: the page's data, its colours, and the note under the pointer.

const data = JSON.parse(document.getElementById("data").textContent);
const stillness = matchMedia("(prefers-reduced-motion: reduce)");

/** Bytes of a base64 text. */
function bytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

/** Colours by variable name as a canvas takes them; a canvas does not know light-dark(). */
const colours = {
  known: new Map(),
  get(name) {
    if (!this.known.has(name)) {
      const probe = document.body.appendChild(document.createElement("i"));
      probe.style.color = `var(--${name})`;
      this.known.set(name, getComputedStyle(probe).color);
      probe.remove();
    }
    return this.known.get(name);
  },
};

/** A number as people read it: four significant digits. */
function readable(value) {
  return value === null || value === undefined ? "–" : String(Number(value.toPrecision(4)));
}

const tip = {
  element: document.getElementById("tip"),
  /** Shows a heading and rows of [name, value] beside a point of the window, for `owner`, with an element above them. */
  show(x, y, heading, rows, owner, picture) {
    const { element } = this;
    this.owner = owner;
    element.replaceChildren(...(picture ? [picture] : []));
    const title = element.appendChild(document.createElement("b"));
    title.textContent = heading;
    for (const [name, value] of rows) {
      const row = element.appendChild(document.createElement("div"));
      row.appendChild(document.createElement("span")).textContent = name;
      row.appendChild(document.createElement("span")).textContent = value;
    }
    element.hidden = false;
    const { width, height } = element.getBoundingClientRect();
    const room = document.documentElement.clientWidth;
    const left = x + 14 + width > room ? x - 14 - width : x + 14;
    const top = y + 14 + height > innerHeight ? y - 14 - height : y + 14;
    const near = Math.max(4, Math.min(left, room - width - 4));
    element.style.transform = `translate(${near}px, ${Math.max(4, top)}px)`;
  },
  /** Hides the note; an owner hides its own only: a finger shows the next before the last loses the focus. */
  hide(owner) {
    if (owner === undefined || owner === this.owner) this.element.hidden = true;
  },
};
addEventListener("scroll", () => tip.hide(), { passive: true });
addEventListener("keydown", (event) => event.key === "Escape" && tip.hide());
