// Pictures of embeddings: decoding, drawing of points, pointer, keys and buttons. plane.js and sphere.js place the points.

/** Embeddings of one training, decoded. */
class Model {
  constructor(found) {
    const { dim, scale } = found;
    const coded = new DataView(bytes(found.points).buffer);
    this.dim = dim;
    this.labels = bytes(found.labels);
    this.predictions = bytes(found.predictions);
    this.count = this.labels.length;
    this.raw = Float32Array.from({ length: this.count * dim }, (_, i) => coded.getInt16(2 * i, true) * scale);
    this.unit = new Float32Array(this.raw.length);
    this.norms = new Float32Array(this.count);
    for (let i = 0; i < this.count; i++) {
      this.norms[i] = Math.hypot(...this.raw.subarray(i * dim, (i + 1) * dim));
      for (let d = 0; d < dim; d++) this.unit[i * dim + d] = this.raw[i * dim + d] / (this.norms[i] || 1);
    }
    this.reach = Float32Array.from(this.norms).sort()[Math.floor((this.count - 1) * 0.999)] || 1;
    // Class weights: as long as they are to be drawn among raw points, and their directions.
    this.rays = Array.from({ length: found.rays.length / dim }, (_, i) => found.rays.slice(i * dim, (i + 1) * dim));
    this.weights = this.rays.map((ray) => ray.map((w) => w / (Math.hypot(...ray) || 1)));
    this.wrong = [...this.labels.keys()].filter((i) => this.labels[i] !== this.predictions[i]);
  }

  /** Angle of a point to a class weight in degrees. */
  angle(i, index) {
    const cos = this.weights[index].reduce((sum, w, d) => sum + w * this.unit[i * this.dim + d], 0);
    return (Math.acos(Math.max(-1, Math.min(1, cos))) * 180) / Math.PI;
  }

  /** Density of each class around the circle, smoothed over 1.5°, at most 1. */
  densities() {
    if (this.cached) return this.cached;
    const bins = 720;
    const kernel = Array.from({ length: 19 }, (_, i) => Math.exp(-0.5 * ((i - 9) / 3) ** 2));
    this.cached = this.weights.map(() => new Float32Array(bins));
    const sizes = this.weights.map((_, index) => this.labels.reduce((n, label) => n + (label === index), 0));
    for (let i = 0; i < this.count; i++) {
      const turn = Math.atan2(this.unit[2 * i + 1], this.unit[2 * i]) / (2 * Math.PI);
      const bin = Math.round(turn * bins) + bins;
      const density = this.cached[this.labels[i]];
      kernel.forEach((k, j) => { density[(bin + j - 9) % bins] += k / sizes[this.labels[i]]; });
    }
    const highest = Math.max(...this.cached.map((density) => Math.max(...density))) || 1;
    for (const density of this.cached) density.forEach((d, bin) => { density[bin] = d / highest; });
    return this.cached;
  }
}

/** One canvas with its model; `state` is shared by the pictures beside it. */
class Picture {
  constructor(canvas, state) {
    this.canvas = canvas;
    this.state = state;
    this.model = new Model(data.embeddings[canvas.dataset.embedding]);
    this.space = this.model.dim === 2 ? plane : sphere;
    this.ctx = canvas.getContext("2d");
    this.placed = new Float32Array(2 * this.model.count);
    this.depth = new Float32Array(this.model.count);
    this.seen = false;
    this.chosen = -1;
    new ResizeObserver(() => this.draw()).observe(canvas);
    new IntersectionObserver(([entry]) => { this.seen = entry.isIntersecting; }).observe(canvas);
    canvas.addEventListener("pointermove", (event) => this.point(event));
    // A finger leaves as soon as it has pointed; what it chose stays until the picture loses the focus.
    canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.choose(-1));
    canvas.addEventListener("blur", () => this.choose(-1));
    canvas.addEventListener("keydown", (event) => this.key(event));
    if (this.model.dim === 3) {
      canvas.addEventListener("pointerdown", (event) => {
        canvas.setPointerCapture(event.pointerId);
        state.drag = [event.clientX, event.clientY];
        this.choose(-1);
      });
      for (const end of ["pointerup", "pointercancel"])
        canvas.addEventListener(end, () => { state.drag = null; });
    }
    canvas.addEventListener("pointerup", (event) => this.point(event));
  }

  draw() {
    const side = this.canvas.clientWidth;
    const dense = Math.min(devicePixelRatio || 1, 3);
    if (!side) return;
    this.side = side;
    if (this.canvas.width !== Math.round(side * dense)) {
      this.canvas.width = this.canvas.height = Math.round(side * dense);
    }
    this.ctx.setTransform(dense, 0, 0, dense, 0, 0);
    this.ctx.clearRect(0, 0, side, side);
    this.space.draw(this);
    if (this.chosen >= 0) this.ring(this.chosen, 7, 2);
  }

  /** Draws the points that `which` takes: class by class, then rings around the wrong ones. */
  points(which, opacity) {
    const { ctx, model, placed, state } = this;
    const digits = state.mark === "digit";
    const size = Math.max(1.8, this.side / 165);
    const lists = model.weights.map(() => []);
    for (let i = 0; i < model.count; i++) {
      if (which(i) && this.shows(i)) lists[model.labels[i]].push(i);
    }
    ctx.font = "600 9px system-ui, sans-serif";
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    ctx.globalAlpha = opacity;
    lists.forEach((list, index) => {
      ctx.fillStyle = colours.get(`class${index % 10}`);
      for (const i of list) {
        const [x, y] = [placed[2 * i], placed[2 * i + 1]];
        // A quarter of the numbers, and all wrong ones: more would hide one another. The factor scrambles the
        // choice, since labels may repeat with any short period.
        if (!digits) ctx.fillRect(x - size / 2, y - size / 2, size, size);
        else if (Math.imul(i, 0x9e3779b1) >>> 30 === 0 || model.labels[i] !== model.predictions[i]) ctx.fillText(index, x, y);
      }
    });
    ctx.globalAlpha = 0.7 * opacity;
    for (const i of model.wrong) if (which(i) && this.shows(i)) this.ring(i, 3.6, 0.9);
    ctx.globalAlpha = 1;
  }

  ring(i, radius, width) {
    const { ctx, placed } = this;
    ctx.strokeStyle = colours.get("ink");
    ctx.lineWidth = width;
    ctx.beginPath();
    ctx.arc(placed[2 * i], placed[2 * i + 1], radius, 0, 2 * Math.PI);
    ctx.stroke();
  }

  /** Writes a class's name with a halo of the paper's colour. */
  name(x, y, index, opacity) {
    const { ctx, state } = this;
    ctx.globalAlpha = state.only === null || state.only === index ? opacity : 0.25;
    ctx.font = "700 13px system-ui, sans-serif";
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    ctx.lineJoin = "round";
    ctx.lineWidth = 4;
    ctx.strokeStyle = colours.get("raised");
    ctx.strokeText(index, x, y);
    ctx.fillStyle = colours.get("ink");
    ctx.fillText(index, x, y);
    ctx.globalAlpha = 1;
  }

  /** Marks a class weight by a disc of its class's colour. */
  disc(x, y, index, opacity) {
    const { ctx, state } = this;
    ctx.globalAlpha = state.only === null || state.only === index ? opacity : 0.25;
    ctx.beginPath();
    ctx.arc(x, y, 4, 0, 2 * Math.PI);
    ctx.fillStyle = colours.get(`class${index % 10}`);
    ctx.fill();
    ctx.lineWidth = 1.2;
    ctx.strokeStyle = colours.get("ink");
    ctx.stroke();
    ctx.globalAlpha = 1;
  }

  /** Whether a point belongs to the class shown alone, if there is one. */
  shows(i) {
    return this.state.only === null || this.model.labels[i] === this.state.only;
  }

  point(event) {
    const { state } = this;
    if (state.drag) {
      state.yaw += (event.clientX - state.drag[0]) / 120;
      state.tilt = Math.max(-1.5, Math.min(1.5, state.tilt + (event.clientY - state.drag[1]) / 120));
      state.drag = [event.clientX, event.clientY];
      state.redraw();
      return;
    }
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let [best, least] = [-1, 14 ** 2];
    for (let i = 0; i < this.model.count; i++) {
      const distance = (this.placed[2 * i] - x) ** 2 + (this.placed[2 * i + 1] - y) ** 2;
      if (distance < least && this.shows(i) && this.space.visible(this, i)) [best, least] = [i, distance];
    }
    this.choose(best);
  }

  /** Marks a point and tells about it; -1 for none. */
  choose(i) {
    const { model, canvas, placed } = this;
    this.state.held = i >= 0;
    if (i !== this.chosen) {
      this.chosen = i;
      this.draw();
    }
    if (i < 0) return tip.hide(this);
    const box = canvas.getBoundingClientRect();
    const [label, predicted] = [model.labels[i], model.predictions[i]];
    const rows = [
      ["predicted", predicted],
      ["angle to own class", `${model.angle(i, label).toFixed(1)}°`],
      ["length ‖x‖", readable(model.norms[i])],
    ];
    if (label !== predicted) rows.splice(2, 0, [`angle to ${predicted}`, `${model.angle(i, predicted).toFixed(1)}°`]);
    tip.show(box.left + placed[2 * i], box.top + placed[2 * i + 1], `Class ${label}`, rows, this);
  }

  key(event) {
    const { state, model } = this;
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const arrow = arrows[event.key];
    if (!arrow) return;
    if (model.dim === 3) {
      state.yaw += arrow[0] * 0.1;
      state.tilt = Math.max(-1.5, Math.min(1.5, state.tilt + arrow[1] * 0.1));
      state.redraw();
    } else {
      const wrong = model.wrong.filter((i) => this.shows(i));
      if (!wrong.length) return;
      const at = wrong.indexOf(this.chosen);
      const step = arrow[0] + arrow[1];
      this.choose(wrong[at < 0 ? 0 : (at + step + wrong.length) % wrong.length]);
    }
    event.preventDefault();
  }
}

{
  const only = (button) => Number(button.dataset.class);
  const states = [...document.querySelectorAll(".embeddings")].map((block) => {
    const state = {
      view: block.dataset.dim === "2" ? "raw" : "unit", mark: "dot", only: null, drag: null, held: false,
      yaw: 0.6, tilt: 0.4, turning: false,
      redraw: () => state.pictures.forEach((picture) => picture.draw()),
    };
    state.pictures = [...block.querySelectorAll("canvas")].map((canvas) => new Picture(canvas, state));
    for (const button of block.querySelectorAll("[data-view], [data-mark]")) {
      button.addEventListener("click", () => {
        Object.assign(state, { ...button.dataset });
        for (const other of button.parentElement.children) other.setAttribute("aria-pressed", other === button);
        state.redraw();
      });
    }
    const turn = block.querySelector("[data-turn]");
    if (turn) {
      const set = (on) => {
        state.turning = on;
        turn.setAttribute("aria-pressed", on);
        if (on) requestAnimationFrame((now) => step(now, now));
      };
      // A turn takes about 50 seconds; it rests while unseen, dragged or pointed at.
      const step = (before, now) => {
        if (!state.turning) return;
        if (!state.drag && !state.held && state.pictures.some((picture) => picture.seen)) {
          state.yaw += (Math.min(now - before, 100) / 1000) * 0.125;
          state.redraw();
        }
        requestAnimationFrame((next) => step(now, next));
      };
      turn.addEventListener("click", () => set(!state.turning));
      stillness.addEventListener("change", () => set(!stillness.matches));
      set(!stillness.matches);
    }
    return state;
  });
  const redraw = () => states.forEach((state) => state.redraw());
  addEventListener("theme", redraw);
  redraw();
  const buttons = [...document.querySelectorAll("[data-class]")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      for (const other of buttons) other.setAttribute("aria-pressed", on && other === button);
      states.forEach((state) => { state.only = on ? only(button) : null; });
      redraw();
    });
  }
}
