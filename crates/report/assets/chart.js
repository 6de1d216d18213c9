// Values of the charts under the pointer or the arrow keys. The curves themselves are in the page already. Charts in one
// block share the epoch that is pointed at.

/** Index of the value nearest to x in values that may hold gaps. */
function nearest(values, x) {
  let best = -1;
  values.forEach((value, i) => {
    if (value === null) return;
    if (best < 0 || Math.abs(value - x) < Math.abs(values[best] - x)) best = i;
  });
  return best;
}

/** One chart of the page. */
class Curves {
  constructor(svg) {
    this.svg = svg;
    this.chart = data.charts[svg.dataset.chart];
    this.cursor = svg.querySelector(".cursor");
    this.places = [...new Set(this.chart.series.flatMap((series) => series.x))]
      .filter((x) => x !== null)
      .sort((a, b) => a - b);
    this.at = -1;
    this.beside = [this];
    const text = document.createElementNS(svg.namespaceURI, "text");
    for (const [name, value] of Object.entries({ class: "chart-value", x: this.chart.frame[1], y: 29, "text-anchor": "end" }))
      text.setAttribute(name, value);
    this.readout = svg.appendChild(text);
    const point = (event) => {
      const [left, right, low, high] = this.chart.frame;
      const box = svg.getBoundingClientRect();
      const unit = ((event.clientX - box.left) * svg.viewBox.baseVal.width) / box.width;
      this.tell(low + ((unit - left) * (high - low)) / (right - left), event.clientX, event.clientY);
    };
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    // A finger leaves as soon as it has pointed; its values stay until the chart loses the focus.
    svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.hide());
    svg.addEventListener("blur", () => this.hide());
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || !this.places.length) return;
      event.preventDefault();
      const stride = event.shiftKey ? 10 : 1;
      this.tell(this.places[Math.max(0, Math.min(this.places.length - 1, this.at + step * stride))]);
    });
  }

  /** Each series with its value nearest to x. */
  values(x) {
    return this.chart.series
      .map((series) => ({ ...series, found: nearest(series.x, x) }))
      .filter(({ found }) => found >= 0)
      .map(({ label, colour, y, found }) => ({ label, colour, value: readable(y[found]) }));
  }

  /** Puts the cursor at x, and the values beside the title. */
  mark(x) {
    const [left, right, low, high] = this.chart.frame;
    this.at = nearest(this.places, x);
    this.place = left + ((right - left) * (Math.max(low, Math.min(high, x)) - low)) / (high - low);
    this.cursor.setAttribute("transform", `translate(${this.place} 0)`);
    this.readout.replaceChildren();
    // More values than five do not fit; they are under the pointer.
    for (const { colour, value } of this.values(x).filter(({ value }) => value !== "–").slice(0, 5)) {
      const part = this.readout.appendChild(document.createElementNS(this.svg.namespaceURI, "tspan"));
      part.setAttribute("class", `f-loss${colour % 12}`);
      part.setAttribute("dx", 6);
      part.textContent = value;
    }
    this.svg.classList.add("on");
  }

  /** Shows the values at x here, and in the charts beside this one. */
  tell(x, clientX, clientY) {
    const i = nearest(this.places, x);
    if (i < 0) return;
    for (const other of this.beside) other.mark(this.places[i]);
    const box = this.svg.getBoundingClientRect();
    tip.show(
      clientX ?? box.left + (this.place * box.width) / this.svg.viewBox.baseVal.width,
      clientY ?? box.top + box.height / 3,
      `${this.chart.x_label} ${readable(this.places[i])}`,
      this.values(this.places[i]).map(({ label, value }) => [label, value]),
      this.svg,
    );
  }

  hide() {
    for (const other of this.beside) other.svg.classList.remove("on");
    tip.hide(this.svg);
  }
}

for (const block of document.querySelectorAll(".charts")) {
  const all = [...block.querySelectorAll("svg[data-chart]")].map((svg) => new Curves(svg));
  for (const chart of all) chart.beside = all;
}
for (const svg of document.querySelectorAll("svg[data-chart]")) if (!svg.closest(".charts")) new Curves(svg);
