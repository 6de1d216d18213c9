// Two classes in the plane: where each wins with and without the margin, and an embedding and weights to drag.

const scene = {
  x: [1.35, 1.5],
  weights: [[1.45, 0.35], [-0.35, 1.0]],
  panels: [],
  draw() {
    this.panels.forEach((panel) => panel.draw());
  },
};

/** Drawing units of one unit of the plane, radius of the plane shown, and the longest vector in it. */
const UNIT = 47;
const RADIUS = 150;
const LONGEST = RADIUS / UNIT;
const SHORTEST = 0.25;

const polar = (v) => ({ turn: Math.atan2(v[1], v[0]), length: Math.hypot(...v) });
const vector = (turn, length) => [Math.cos(turn) * length, Math.sin(turn) * length];
const canvasOf = ([x, y]) => [x * UNIT, -y * UNIT];
const fixed = (v) => v.toFixed(1);
/** Puts markup at the end of an element and returns what it became. */
const put = (parent, markup) => {
  parent.insertAdjacentHTML("beforeend", markup);
  return parent.lastElementChild;
};

/** One loss's picture of the scene. */
class Panel {
  constructor(host, loss, index) {
    this.loss = loss;
    const figure = put(host, `<figure><figcaption><span class="swatch b-loss${loss.colour}"></span><b>${safe(loss.title)}</b></figcaption></figure>`);
    this.svg = put(figure, `<svg viewBox="-164 -164 328 328" class="scene" role="group" aria-label="Two classes in the plane, ${safe(loss.title)}"></svg>`);
    this.hatch = ["one", "two"].map((name) => `hatch-${name}-${index}`);
    const pattern = (name, i) =>
      `<pattern id="${this.hatch[i]}" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(${i ? -45 : 45})">
       <path class="stripe ${name}" d="M0 3h6"/></pattern>`;
    put(this.svg, `<defs>${["one", "two"].map(pattern).join("")}</defs>`);
    this.regions = put(this.svg, "<g></g>");
    this.arrows = put(this.svg, "<g></g>");
    this.handles = [
      this.handle("w", 0, "weight of class 1"), this.handle("w", 1, "weight of class 2"), this.handle("x", null, "embedding x of class 1"),
    ];
    this.readout = put(figure, '<div class="readout"></div>');
  }

  get(which, index) {
    return which === "x" ? scene.x : scene.weights[index];
  }

  /** Where a vector is drawn: a class weight that is brought to length 1 stands on the unit circle. */
  place(which, index) {
    const v = this.get(which, index);
    return which === "w" && !this.loss.by_norms ? vector(polar(v).turn, 1) : v;
  }

  move(which, index, turn, length) {
    const before = polar(this.get(which, index));
    const keeps = which === "w" && !this.loss.by_norms;
    const next = vector(turn, keeps ? before.length : Math.max(SHORTEST, Math.min(LONGEST, length)));
    if (which === "x") scene.x = next;
    else scene.weights[index] = next;
    scene.draw();
  }

  handle(which, index, label) {
    const [name, kind] = which === "x" ? ["x", "embedding"] : index ? ["w₂", "two"] : ["w₁", "one"];
    const group = put(this.svg, `<g class="handle ${kind}" tabindex="0" role="slider" aria-label="${label}" aria-valuemin="-180" aria-valuemax="180">
      <circle class="reach" r="22"/><circle class="knob" r="11"/><text text-anchor="middle" y="4">${name}</text></g>`);
    let held = false;
    const drag = (event) => {
      if (!held) return;
      const box = this.svg.getBoundingClientRect();
      const unit = 328 / box.width / UNIT;
      const v = [(event.clientX - box.left - box.width / 2) * unit, (box.top + box.height / 2 - event.clientY) * unit];
      const { turn, length } = polar(v);
      if (length > 0.02) this.move(which, index, turn, length);
    };
    group.addEventListener("pointerdown", (event) => {
      held = true;
      group.setPointerCapture(event.pointerId);
      drag(event);
    });
    group.addEventListener("pointermove", drag);
    for (const end of ["pointerup", "pointercancel"]) group.addEventListener(end, () => { held = false; });
    group.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    group.addEventListener("keydown", (event) => {
      const [turns, longer] = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
      if (!turns && !longer) return;
      event.preventDefault();
      const by = event.shiftKey ? 5 : 1;
      const { turn, length } = polar(this.get(which, index));
      this.move(which, index, turn + turns * by * radians(2), length + longer * by * 0.1);
    });
    return { which, index, group };
  }

  /** What becomes of embeddings in a direction: 0 class 1 wins with the margin, 1 without only; 3 and 2 class 2 so. */
  region(turn) {
    const direction = vector(turn, 1);
    const heads = [0, 1].map((label) => this.loss.classes(direction, scene.weights, label, settings).rows);
    const plain = heads[1][0].logit > heads[0][1].logit ? 0 : 1;
    const rows = heads[plain];
    const wins = rows[plain].logit > rows[1 - plain].logit;
    return plain ? (wins ? 3 : 2) : wins ? 0 : 1;
  }

  /** Stretches of directions of one region: [region, from, to]. */
  sectors() {
    const steps = 240;
    const turn = (i) => (2 * Math.PI * i) / steps;
    const regions = Array.from({ length: steps }, (_, i) => this.region(turn(i)));
    const edges = [];
    for (const i of regions.keys()) {
      const next = regions[(i + 1) % steps];
      if (next === regions[i]) continue;
      edges.push([next, edge(turn(i), turn(i + 1), (at) => this.region(at) === regions[i])]);
    }
    if (!edges.length) return [[regions[0], 0, 2 * Math.PI]];
    return edges.map(([region, from], k) => [region, from, edges[k + 1]?.[1] ?? edges[0][1] + 2 * Math.PI]);
  }

  /** The boundaries of class 1 and class 2 on the way from w₁ to w₂, and the angle between them. */
  gap() {
    const [a, b] = scene.weights.map((w) => polar(w).turn);
    let span = b - a;
    span -= 2 * Math.PI * Math.round(span / (2 * Math.PI));
    const steps = 120;
    const at = (i) => a + (span * i) / steps;
    const is = (i) => this.region(at(i));
    let [first, last] = [0, steps];
    while (first <= steps && is(first) === 0) first++;
    while (last >= 0 && is(last) === 3) last--;
    if (first === 0 || last === steps || last < first) return [a, a, 0];
    const from = edge(at(first - 1), at(first), (turn) => this.region(turn) === 0);
    const to = edge(at(last), at(last + 1), (turn) => this.region(turn) !== 3);
    return [from, to, Math.abs(to - from)];
  }

  draw() {
    const { loss } = this;
    const head = loss.head(scene.x, scene.weights, 0, settings);
    let out = "";
    const at = (turn, radius) => `${fixed(Math.cos(turn) * radius)} ${fixed(-Math.sin(turn) * radius)}`;
    for (const [region, from, to] of this.sectors()) {
      // Two arcs, since one of about half a turn may bend either way.
      const arc = (turn) => `A${RADIUS} ${RADIUS} 0 0 0 ${at(turn, RADIUS)}`;
      const path = `M0 0L${at(from, RADIUS)}${arc((from + to) / 2)}${arc(to)}Z`;
      const name = region < 2 ? "one" : "two";
      out += `<path class="sector ${name}${region === 1 || region === 2 ? " margin" : ""}" d="${path}"/>`;
      if (region === 1 || region === 2) out += `<path fill="url(#${this.hatch[region - 1]})" d="${path}"/>`;
    }
    out += `<circle class="rim" r="${RADIUS}"/>`;
    if (!loss.by_norms) out += `<circle class="unit" r="${UNIT}"/>`;
    const [from, to, width] = this.gap();
    if (width > radians(0.5)) {
      const radius = RADIUS * 0.8;
      out += `<path class="measure" d="M${at(from, radius)}A${radius} ${radius} 0 0 ${to > from ? 0 : 1} ${at(to, radius)}"/>`;
      const [x, y] = [Math.cos((from + to) / 2) * (radius + 16), -Math.sin((from + to) / 2) * (radius + 16)];
      out += `<text class="measured" x="${fixed(x)}" y="${fixed(y + 4)}" text-anchor="middle">${((width * 180) / Math.PI).toFixed(0)}°</text>`;
    }
    this.regions.innerHTML = out;
    // Vectors, and against the gradient the way a step of training moves their ends.
    out = "";
    const steps = [head.rows[0].gradient, head.rows[1].gradient, head.dx];
    for (const [i, { which, index, group }] of this.handles.entries()) {
      const place = this.place(which, index);
      const [x, y] = canvasOf(place);
      out += `<path class="vector ${which === "x" ? "embedding" : index ? "two" : "one"}" d="M0 0L${fixed(x)} ${fixed(y)}"/>`;
      group.setAttribute("transform", `translate(${fixed(x)} ${fixed(y)})`);
      const { turn, length } = polar(this.get(which, index));
      group.setAttribute("aria-valuenow", Math.round((turn * 180) / Math.PI));
      group.setAttribute("aria-valuetext", `direction ${Math.round((turn * 180) / Math.PI)}°, length ${length.toFixed(1)}`);
      out += arrow(place, steps[i].map((v) => -v));
    }
    this.arrows.innerHTML = out;
    this.tell(head, width);
  }

  tell({ rows, loss }, width) {
    const plain = rows.map((row) => row.omega * row.cos);
    const right = plain[0] > plain[1];
    const verdict = !right ? "✗ wrong" : rows[0].logit > rows[1].logit ? "✓ right" : "◐ right, but inside the margin";
    const cells = (name, value) => `<span>${name}</span>${rows.map((row) => `<span class="number">${value(row)}</span>`).join("")}`;
    const percent = (row) => `${(100 * row.probability).toFixed(0)}%`;
    this.readout.innerHTML =
      `<div class="grid"><span></span><span class="number">class 1</span><span class="number">class 2</span>` +
      cells("angle θ", (row) => `${((row.theta * 180) / Math.PI).toFixed(0)}°`) +
      cells("logit z", (row) => row.logit.toFixed(2).replace("-", "−")) +
      cells("probability", percent) +
      `</div><div class="bar" aria-hidden="true"><span style="width:${percent(rows[0])}"></span></div>` +
      `<p><b>Loss ${loss.toFixed(2)}</b> · ${verdict}</p>` +
      `<p>Angular margin ${width > radians(0.5) ? `${((width * 180) / Math.PI).toFixed(1)}°` : "none"}</p>`;
  }
}

/** Where a condition that holds at one turn ceases on the way to another. */
function edge(holds, fails, condition) {
  for (let k = 0; k < 14; k++) {
    const middle = (holds + fails) / 2;
    if (condition(middle)) holds = middle;
    else fails = middle;
  }
  return (holds + fails) / 2;
}

/** An arrow from a place of the plane along a step; a step of less than a pixel or two has none. */
function arrow(place, step) {
  const length = Math.hypot(...step);
  const shown = Math.min(length, 1.3) * 0.9;
  if (shown * UNIT < 2.5) return "";
  const along = step.map((v) => v / length);
  const [x, y] = canvasOf(place.map((v, d) => v + along[d] * (shown + 0.25)));
  const [sx, sy] = canvasOf(place.map((v, d) => v + along[d] * 0.25));
  const [ux, uy] = [along[0], -along[1]];
  const tip = [x, y];
  const back = [x - 7 * ux, y - 7 * uy];
  const wing = (side) => `${fixed(back[0] - side * 4 * uy)} ${fixed(back[1] + side * 4 * ux)}`;
  return `<path class="step" d="M${fixed(sx)} ${fixed(sy)}L${fixed(back[0])} ${fixed(back[1])}"/><path class="head" d="M${fixed(tip[0])} ${fixed(tip[1])}L${wing(1)}L${wing(-1)}Z"/>`;
}

/** Brings x to a place, in a short movement where that is welcome. */
function bring(target) {
  const start = polar(scene.x);
  const end = polar(target);
  const turn = end.turn - start.turn - 2 * Math.PI * Math.round((end.turn - start.turn) / (2 * Math.PI));
  const go = (t) => {
    scene.x = vector(start.turn + turn * t, start.length + (end.length - start.length) * t);
    scene.draw();
  };
  if (stillness.matches) return go(1);
  const began = performance.now();
  const frame = (now) => {
    const t = Math.min(1, Math.max(0, now - began) / 350);
    go(t * t * (3 - 2 * t));
    if (t < 1) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

{
  const host = document.querySelector('[data-plot="boundaries"]');
  if (host && bent) {
    scene.panels = losses.map((loss, i) => new Panel(host, loss, i));
    settings.changed.push(() => scene.draw());
    const row = section.querySelector('[data-settings~="places"]').appendChild(document.createElement("div"));
    row.className = "segments";
    row.setAttribute("role", "group");
    row.setAttribute("aria-label", "Put x");
    // Fractions of the way from w₁ to w₂.
    for (const [text, part] of [["x near w₁", 0.08], ["x in the margin", 0.36], ["x wrong", 0.7]]) {
      const button = row.appendChild(document.createElement("button"));
      Object.assign(button, { type: "button", textContent: text });
      button.addEventListener("click", () => {
        const [a, b] = scene.weights.map((w) => polar(w).turn);
        const span = b - a - 2 * Math.PI * Math.round((b - a) / (2 * Math.PI));
        bring(vector(a + span * part, 2.3));
      });
    }
    scene.draw();
  }
}
