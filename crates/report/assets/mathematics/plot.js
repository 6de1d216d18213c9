// Line plots of the mathematics, drawn as SVG at the size they are seen at, and the controls above them.

/** Text safe inside markup. */
function safe(text) {
  return String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}

/** One plot. `content()` says what it shows: { title, x, y, curves, marks }. */
class Plot {
  constructor(host, content) {
    this.content = content;
    host.insertAdjacentHTML("beforeend", '<svg class="plot" tabindex="0" role="img"></svg>');
    this.svg = host.lastElementChild;
    this.at = null;
    new ResizeObserver(() => this.draw()).observe(host);
    const point = (event) => {
      const box = this.svg.getBoundingClientRect();
      this.show(this.value(event.clientX - box.left), event.clientX, event.clientY);
    };
    this.svg.addEventListener("pointermove", point);
    this.svg.addEventListener("pointerdown", point);
    // A finger leaves as soon as it has pointed; its values stay until the plot loses the focus.
    this.svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.hide());
    this.svg.addEventListener("blur", () => this.hide());
    this.svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const [from, to] = this.shown.x.range;
      const stride = ((to - from) / 180) * (event.shiftKey ? 10 : 1);
      const next = (this.at ?? from) + step * stride;
      this.show(Math.max(Math.min(from, to), Math.min(Math.max(from, to), next)));
    });
  }

  draw() {
    const width = Math.max(240, Math.round(this.svg.parentElement.clientWidth));
    const height = Math.round(Math.min(260, Math.max(200, width * 0.62)));
    const shown = (this.shown = this.content());
    const frame = (this.frame = { left: 34, right: width - (shown.room ?? 16), top: 30, bottom: height - 36 });
    const { x, y } = shown;
    const px = (this.px = (v) => frame.left + ((frame.right - frame.left) * (v - x.range[0])) / (x.range[1] - x.range[0]));
    const py = (this.py = (v) => frame.bottom + ((frame.top - frame.bottom) * (v - y.range[0])) / (y.range[1] - y.range[0]));
    const n = (v) => v.toFixed(1);
    let out = `<text class="title" x="2" y="15">${safe(shown.title)}</text>`;
    for (const [v, label] of y.ticks) {
      out += `<path class="s-grid" d="M${frame.left} ${n(py(v))}H${frame.right}"/>`;
      out += `<text class="tick end" x="${frame.left - 6}" y="${n(py(v) + 4)}">${label}</text>`;
    }
    for (const [v, label] of x.ticks) {
      out += `<path class="s-muted" d="M${n(px(v))} ${frame.bottom}v4"/>`;
      out += `<text class="tick middle" x="${n(px(v))}" y="${frame.bottom + 16}">${label}</text>`;
    }
    out += `<path class="s-muted" d="M${frame.left} ${frame.bottom}H${frame.right}"/>`;
    out += `<text class="tick end" x="${frame.right}" y="${height - 4}">${safe(x.title)}</text>`;
    for (const curve of shown.curves) {
      let pen = "M";
      let path = "";
      for (const [a, b] of curve.points) {
        const inside = Number.isFinite(b) && b >= Math.min(...y.range) - 1e-9 && b <= Math.max(...y.range) + 1e-9;
        if (inside) path += `${pen}${n(px(a))} ${n(py(b))}`;
        pen = inside ? "L" : "M";
      }
      out += `<path class="line ${curve.paint}${curve.strong ? " strong" : ""}${curve.dashed ? " dashed" : ""}" d="${path}"/>`;
    }
    // Names stand beside their curves' ends, pushed apart where they would touch.
    const names = shown.curves.filter((curve) => curve.label).map((curve) => {
      const drawn = curve.points.filter(([, b]) => Number.isFinite(b) && b >= y.range[0] && b <= y.range[1]);
      const [a, b] = drawn.at(curve.named === "start" || curve.named === "right" ? 0 : -1) ?? [x.range[0], y.range[0]];
      const [dx, dy] = { start: [3, -5], right: [18, 4], over: [-3, -8] }[curve.named] ?? [4, 4];
      return { curve, x: px(a) + dx, y: py(b) + dy };
    });
    names.sort((a, b) => a.y - b.y);
    for (let i = 1; i < names.length; i++) names[i].y = Math.max(names[i].y, names[i - 1].y + 12.5);
    for (let i = names.length - 1, limit = frame.bottom - 2; i >= 0; i--, limit -= 12.5) names[i].y = Math.min(names[i].y, limit);
    for (const { curve, x: left, y: top } of names)
      out += `<text class="name${curve.strong ? " strong" : ""}${curve.named === "over" ? " end" : ""}" x="${n(left)}" y="${n(top)}">${safe(curve.label)}</text>`;
    for (const mark of shown.marks ?? []) {
      if (mark.line) out += `<path class="s-muted dashed" d="M${n(px(mark.x))} ${frame.top}V${frame.bottom}"/>`;
      else out += `<circle class="ring" cx="${n(px(mark.x))}" cy="${n(py(mark.y))}" r="5.5"/>`;
      if (mark.text) out += `<text class="name" x="${n(px(mark.x) + 9)}" y="${n(py(mark.y) - 7)}">${safe(mark.text)}</text>`;
    }
    out += `<path class="cursor" d=""/>`;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("aria-label", `${shown.title}. ${shown.summary ?? ""} Arrow keys read values.`);
    this.svg.innerHTML = out;
  }

  value(px) {
    const { left, right } = this.frame;
    const [from, to] = this.shown.x.range;
    return from + (to - from) * Math.max(0, Math.min(1, (px - left) / (right - left)));
  }

  show(value, clientX, clientY) {
    this.at = value;
    const place = this.px(value);
    this.svg.querySelector(".cursor").setAttribute("d", `M${place.toFixed(1)} ${this.frame.top}V${this.frame.bottom}`);
    const rows = this.shown.curves
      .map((curve) => [curve, at(curve.points, value)])
      .filter(([, y]) => Number.isFinite(y))
      .map(([{ name, read = (y) => y }, y]) => [name, readable(Number(read(y).toFixed(4)))]);
    const box = this.svg.getBoundingClientRect();
    const named = this.shown.x.format ?? readable;
    tip.show(clientX ?? box.left + place, clientY ?? box.top + 60, named(value), rows);
  }

  hide() {
    this.svg.querySelector(".cursor")?.setAttribute("d", "");
    tip.hide();
  }
}

/** Value of a curve of ascending or descending places, linearly between its points. */
function at(points, x) {
  for (let i = 1; i < points.length; i++) {
    const [[a, b], [c, d]] = [points[i - 1], points[i]];
    if ((a - x) * (c - x) <= 0 && a !== c) return b + ((d - b) * (x - a)) / (c - a);
  }
  return NaN;
}

/** What the reader has chosen, shared by all pictures of the section. */
const settings = {
  m: null,
  lambda: 0,
  axis: "angle",
  changed: [],
  set(change) {
    Object.assign(this, change);
    this.changed.forEach((update) => update());
  },
};

/** A range input over a list of values. */
function slider(host, { label, name, values, format }) {
  host.insertAdjacentHTML("beforeend", `<label class="slider"><span>${label}</span><input><output></output></label>`);
  const [, input, output] = host.lastElementChild.children;
  Object.assign(input, { type: "range", min: 0, max: values.length - 1, step: 1 });
  input.addEventListener("input", () => settings.set({ [name]: values[input.value] }));
  settings.changed.push(() => {
    input.value = values.indexOf(settings[name]);
    output.textContent = format(settings[name]);
    input.setAttribute("aria-valuetext", output.textContent);
  });
}

/** A row of buttons of which one is pressed. */
function segments(host, { label, name, options }) {
  const box = host.appendChild(document.createElement("div"));
  box.className = "segments";
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", label);
  for (const [value, text] of options) {
    const button = box.appendChild(document.createElement("button"));
    Object.assign(button, { type: "button", textContent: text });
    button.addEventListener("click", () => settings.set({ [name]: value }));
    settings.changed.push(() => button.setAttribute("aria-pressed", settings[name] === value));
  }
}
