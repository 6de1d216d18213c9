// Pictures of embeddings: drawing of points, pointer, keys and buttons. plane.js and sphere.js place the points.

/** The digits as tiles of one picture, in the order of the points. */
const digits = {
  sprite: new Image(),
  /** A test image as an element; nothing if there is none of it. */
  element(i) {
    const found = data.digits;
    if (!found || i >= found.count || !this.sprite.complete) return null;
    const { width, height, columns } = found;
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width, height, className: "digit" });
    const [left, top] = [(i % columns) * width, Math.floor(i / columns) * height];
    canvas.getContext("2d").drawImage(this.sprite, left, top, width, height, 0, 0, width, height);
    return canvas;
  },
};
if (data.digits) digits.sprite.src = `data:image/png;base64,${data.digits.png}`;

/** Embeddings of one training at its end. */
function trained(found) {
  const { dim } = found;
  const labels = bytes(found.labels);
  const full = new Moment(dim, labels, labels.length, found.rays.length / dim);
  full.raw = unpacked(found.points);
  polar(full.raw, dim, full.unit, full.norms);
  full.predictions = bytes(found.predictions);
  full.rays = full.rays.map((_, j) => found.rays.slice(j * dim, (j + 1) * dim));
  full.weights = full.rays.map((ray) => ray.map((w) => w / (Math.hypot(...ray) || 1)));
  full.reach = full.measure();
  full.judge();
  return full;
}

/** Outer radius of the ring around a wrongly classified image, in pixels. */
const RING = 4.5;

/** One canvas with its embeddings; `state` is shared by the pictures beside it. */
class Picture {
  constructor(canvas, state) {
    this.canvas = canvas;
    this.state = state;
    const found = data.embeddings[canvas.dataset.embedding];
    this.model = trained(found);
    this.film = found.film ? new Film(found.film, this.model) : null;
    this.space = this.model.dim === 2 ? plane : sphere;
    this.ctx = canvas.getContext("2d");
    this.placed = new Float32Array(2 * this.model.count);
    this.depth = new Float32Array(this.model.count);
    this.count = canvas.parentElement.querySelector(".count");
    this.counted = this.count?.textContent;
    this.seen = false;
    this.pointed = false;
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

  /** Takes the embeddings of an epoch. */
  moment(epoch) {
    if (!this.film) return;
    this.model = this.film.at(epoch);
    const { count, wrong } = this.model;
    const playing = this.model !== this.film.full;
    this.count.textContent =
      playing ? `${wrong.length} of the first ${count.toLocaleString("en")} wrong` : this.counted;
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
    if (chosen >= 0 && chosen < this.model.count && this.space.visible(this, chosen)) this.ring(chosen, 7, 2);
  }

  /** Draws the points that `which` takes: class by class, then rings around the wrong ones. */
  points(which, opacity) {
    const { ctx, model, placed, state } = this;
    const filmed = this.film ? this.film.found.count : model.count;
    const size = Math.max(1.8, this.side / 165) * (model.count > 1500 ? 1 : 1.25);
    const named = state.mark === "digit";
    ctx.font = "600 9px system-ui, sans-serif";
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    ctx.globalAlpha = opacity;
    let colour = -1;
    const late = [];
    for (const i of model.order) {
      if (!which(i) || !this.shows(i)) continue;
      if (state.reveal < 1 && i >= filmed) {
        late.push(i);
        continue;
      }
      const index = model.labels[i];
      if (index !== colour) ctx.fillStyle = colours.get(`class${(colour = index) % 10}`);
      this.mark(i, index, size, named);
    }
    ctx.globalAlpha = opacity * state.reveal;
    for (const i of late) {
      const index = model.labels[i];
      if (index !== colour) ctx.fillStyle = colours.get(`class${(colour = index) % 10}`);
      this.mark(i, index, size, named);
    }
    // Hundreds of rings would hide the points.
    ctx.globalAlpha = 0.7 * opacity * Math.min(1, Math.sqrt(120 / Math.max(1, model.wrong.length)));
    const around = this.around();
    for (const i of model.wrong) {
      if (!which(i) || !this.shows(i) || (state.reveal < 1 && i >= filmed)) continue;
      ctx.drawImage(around, placed[2 * i] - RING, placed[2 * i + 1] - RING, 2 * RING, 2 * RING);
    }
    ctx.globalAlpha = 1;
  }

  /** The ring around a wrong one, drawn once: stroking hundreds of arcs takes longer than all else together. */
  around() {
    const [ink, dense] = [colours.get("ink"), this.canvas.width / this.side];
    const key = `${ink} ${dense}`;
    if (this.kept?.key !== key) {
      const bitmap = document.createElement("canvas");
      bitmap.width = bitmap.height = Math.ceil(2 * RING * dense);
      const ctx = bitmap.getContext("2d");
      ctx.scale(dense, dense);
      ctx.strokeStyle = ink;
      ctx.lineWidth = 0.9;
      ctx.arc(RING, RING, RING - 0.9, 0, 2 * Math.PI);
      ctx.stroke();
      this.kept = { key, bitmap };
    }
    return this.kept.bitmap;
  }

  /** One point as a dot or as its number. */
  mark(i, index, size, named) {
    const { ctx, model, placed } = this;
    const [x, y] = [placed[2 * i], placed[2 * i + 1]];
    // A quarter of the numbers, and all wrong ones: more would hide one another. The factor scrambles the choice,
    // since labels may repeat with any short period.
    if (!named) ctx.fillRect(x - size / 2, y - size / 2, size, size);
    else if (Math.imul(i, 0x9e3779b1) >>> 30 === 0 || index !== model.predictions[i]) ctx.fillText(index, x, y);
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

  /** Marks a test image in all pictures and tells about it; -1 for none. */
  choose(i) {
    this.pointed = this.state.held = i >= 0;
    if (i !== chosen) {
      chosen = i;
      states.forEach((state) => state.redraw());
    }
    this.tell();
  }

  /** The note beside the chosen image. */
  tell() {
    const { model, canvas, placed } = this;
    const i = chosen;
    if (i < 0 || !this.pointed) return tip.hide(this);
    if (i >= model.count) return;
    const box = canvas.getBoundingClientRect();
    const [label, predicted, other] = [model.labels[i], model.predictions[i], model.nearestOther(i)];
    const degrees = (index) => `${model.angle(i, index).toFixed(1)}°`;
    const rows = [["predicted", predicted], [`angle to own class ${label}`, degrees(label)]];
    if (other !== undefined) rows.push([`angle to nearest other, ${other}`, degrees(other)]);
    rows.push(["length ‖x‖", readable(model.norms[i])]);
    const heading = label === predicted ? `Class ${label}` : `Class ${label}, taken for ${predicted}`;
    tip.show(box.left + placed[2 * i], box.top + placed[2 * i + 1], heading, rows, this, digits.element(i));
  }

  key(event) {
    const { state, model } = this;
    if (event.key === " " && state.player) {
      state.player.toggle();
      event.preventDefault();
      return;
    }
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
      const at = wrong.indexOf(chosen);
      const step = arrow[0] + arrow[1];
      this.choose(wrong[at < 0 ? 0 : (at + step + wrong.length) % wrong.length]);
    }
    event.preventDefault();
  }
}

/** Pictures of one embedding size, which turn, play and are looked at together. */
class State {
  constructor(block) {
    Object.assign(this, {
      view: block.dataset.dim === "2" ? "raw" : "unit", mark: "dot", only: null, drag: null, held: false,
      yaw: 0.6, tilt: 0.4, turning: false, reveal: 1, frame: 0,
    });
    this.pictures = [...block.querySelectorAll("canvas")].map((canvas) => new Picture(canvas, this));
    for (const button of block.querySelectorAll("[data-view], [data-mark]")) {
      button.addEventListener("click", () => {
        Object.assign(this, { ...button.dataset });
        for (const other of button.parentElement.children) other.setAttribute("aria-pressed", other === button);
        this.redraw();
      });
    }
    const player = block.querySelector(".player");
    this.player = player && new Player(player, this);
    if (this.player) this.playOnceSeen(block.querySelector(".pictures"));
    const turn = block.querySelector("[data-turn]");
    if (turn) {
      const set = (on) => {
        this.turning = on;
        turn.setAttribute("aria-pressed", on);
        this.animate();
      };
      turn.addEventListener("click", () => set(!this.turning));
      stillness.addEventListener("change", () => set(!stillness.matches));
      set(!stillness.matches);
    }
  }

  redraw() {
    this.pictures.forEach((picture) => picture.draw());
  }

  /** Takes the embeddings of the player's epoch. */
  moment() {
    for (const picture of this.pictures) {
      if (this.player.playing && !picture.seen && this.player.epoch < this.player.last) continue;
      picture.moment(this.player.epoch);
      picture.draw();
      if (picture.pointed) picture.tell();
    }
  }

  /** The film plays by itself once, when it is first looked at; not for readers who want stillness. */
  playOnceSeen(pictures) {
    const observer = new IntersectionObserver(([entry]) => {
      if (!entry.isIntersecting) return;
      observer.disconnect();
      if (!stillness.matches && !this.held && this.player.epoch >= this.player.last) this.player.toggle(true);
    }, { threshold: 0.5 });
    observer.observe(pictures);
    stillness.addEventListener("change", () => stillness.matches && this.player.toggle(false));
  }

  /** Keeps moving what moves: the film, the points that appear after it, the turning sphere. */
  animate() {
    if (this.frame) return;
    let before = null;
    const step = (now) => {
      this.frame = 0;
      const seconds = before === null ? 0 : Math.min(now - before, 100) / 1000;
      before = now;
      const { player } = this;
      const seen = this.pictures.some((picture) => picture.seen);
      // A turn takes about 50 seconds; it rests while dragged or pointed at.
      const turns = this.turning && !this.drag && !this.held;
      if (seen) {
        if (turns) this.yaw += seconds * 0.125;
        if (this.reveal < 1) this.reveal = Math.min(1, this.reveal + seconds * 2);
        if (player?.playing) player.advance(seconds);
        else if (turns || this.reveal < 1) this.pictures.filter((picture) => picture.seen).forEach((p) => p.draw());
      }
      if (player?.playing || this.reveal < 1 || this.turning) this.frame = requestAnimationFrame(step);
      else this.redraw();
    };
    this.frame = requestAnimationFrame(step);
  }
}

/** The test image that is pointed at, marked in every picture. */
let chosen = -1;
const states = [];
for (const block of document.querySelectorAll(".embeddings")) states.push(new State(block));
{
  const redraw = () => states.forEach((state) => state.redraw());
  addEventListener("theme", redraw);
  // Paper shows the end of the film.
  addEventListener("beforeprint", () => {
    for (const { player } of states) {
      player?.toggle(false);
      player?.seek(player.last);
    }
    redraw();
  });
  redraw();
  const buttons = [...document.querySelectorAll("[data-class]")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      for (const other of buttons) other.setAttribute("aria-pressed", on && other === button);
      states.forEach((state) => { state.only = on ? Number(button.dataset.class) : null; });
      redraw();
    });
  }
}
