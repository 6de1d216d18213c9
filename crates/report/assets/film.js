// A training as a film: embeddings between recorded frames, and the controls that play them.

/** Numbers that were packed as 16-bit integers with a scale. */
function unpacked({ scale, values }) {
  const coded = new DataView(bytes(values).buffer);
  return Float32Array.from({ length: coded.byteLength / 2 }, (_, i) => coded.getInt16(2 * i, true) * scale);
}

/** Embeddings at one moment: what a picture draws. */
class Moment {
  constructor(dim, labels, count, classes) {
    Object.assign(this, { dim, labels, count });
    this.raw = new Float32Array(count * dim);
    this.unit = new Float32Array(count * dim);
    this.norms = new Float32Array(count);
    this.predictions = new Uint8Array(count);
    // Class weights: as long as they are to be drawn among raw points, and their directions.
    this.rays = Array.from({ length: classes }, () => new Array(dim).fill(0));
    this.weights = Array.from({ length: classes }, () => new Array(dim).fill(0));
    // Class by class, so that a colour is set ten times and not a thousand.
    this.order = Uint16Array.from({ length: count }, (_, i) => i).sort((a, b) => labels[a] - labels[b] || a - b);
  }

  /** Angle of a point to a class weight in degrees. */
  angle(i, index) {
    const cos = this.weights[index].reduce((sum, w, d) => sum + w * this.unit[i * this.dim + d], 0);
    return (Math.acos(Math.max(-1, Math.min(1, cos))) * 180) / Math.PI;
  }

  /** The nearest class weight but its own. */
  nearestOther(i) {
    const others = this.weights.keys().filter((index) => index !== this.labels[i]);
    return [...others].sort((a, b) => this.angle(i, a) - this.angle(i, b))[0];
  }

  /** Lists the points on the wrong side. */
  judge() {
    this.wrong = [];
    for (let i = 0; i < this.count; i++) if (this.labels[i] !== this.predictions[i]) this.wrong.push(i);
  }

  /** A length that nearly all points keep within. */
  measure() {
    return Float32Array.from(this.norms).sort()[Math.floor((this.count - 1) * 0.999)] || 1;
  }

  /** Density of each class around the circle, smoothed over 1.5°, at most 1. */
  densities() {
    if (this.cached) return this.cached;
    const bins = 360;
    const kernel = Array.from({ length: 11 }, (_, i) => Math.exp(-0.5 * ((i - 5) / 1.5) ** 2));
    this.cached = this.weights.map(() => new Float32Array(bins));
    const sizes = this.weights.map(() => 0);
    for (const label of this.labels.subarray(0, this.count)) sizes[label]++;
    for (let i = 0; i < this.count; i++) {
      const turn = Math.atan2(this.unit[2 * i + 1], this.unit[2 * i]) / (2 * Math.PI);
      const bin = Math.round(turn * bins) + bins;
      const density = this.cached[this.labels[i]];
      kernel.forEach((k, j) => { density[(bin + j - 5) % bins] += k / sizes[this.labels[i]]; });
    }
    const highest = Math.max(...this.cached.map((density) => Math.max(...density))) || 1;
    for (const density of this.cached) density.forEach((d, bin) => { density[bin] = d / highest; });
    return this.cached;
  }
}

/** Fills directions and lengths from vectors of `dim` numbers. */
function polar(vectors, dim, directions, lengths) {
  for (let i = 0; i < lengths.length; i++) {
    let squares = 0;
    for (let d = 0; d < dim; d++) squares += vectors[i * dim + d] ** 2;
    lengths[i] = Math.sqrt(squares);
    for (let d = 0; d < dim; d++) directions[i * dim + d] = vectors[i * dim + d] / (lengths[i] || 1);
  }
}

/** The moments between recorded frames. Directions and logarithms of lengths follow a smooth curve through all frames. */
class Film {
  constructor(found, full) {
    this.found = found;
    this.full = full;
    this.epochs = found.epochs;
    this.last = this.epochs.at(-1);
  }

  /** Frames are decoded when the film is first played. */
  decode() {
    const { full, found } = this;
    const { dim, weights: { length: classes } } = full;
    const frames = (list, moment) => list.map((packed) => {
      const vectors = unpacked(packed);
      const [directions, lengths] = [new Float32Array(vectors.length), new Float32Array(vectors.length / dim)];
      polar(vectors, dim, directions, lengths);
      const reach = moment ? Float32Array.from(lengths).sort()[Math.floor((lengths.length - 1) * 0.999)] || 1 : 1;
      if (moment) lengths.forEach((length, i) => { lengths[i] = Math.log(Math.max(length, 1e-6)); });
      return { directions, lengths, reach };
    });
    this.points = frames(found.points, true);
    this.rays = frames(found.rays, false);
    this.points.at(-1).reach = full.reach;
    this.moment = new Moment(dim, full.labels, this.points[0].lengths.length, classes);
  }

  /** The moment at an epoch; at the end all points. */
  at(epoch) {
    if (epoch >= this.last) return this.full;
    if (!this.points) this.decode();
    const { epochs, moment } = this;
    const after = epochs.findIndex((e) => e > epoch);
    const now = Math.max(0, after - 1);
    const u = Math.max(0, Math.min(1, (epoch - epochs[now]) / (epochs[now + 1] - epochs[now])));
    // Catmull–Rom: through the frames, without a jerk at any of them.
    const taps = [-1, 0, 1, 2].map((k) => Math.max(0, Math.min(epochs.length - 1, now + k)));
    const share = [
      0.5 * (-u + 2 * u * u - u ** 3), 0.5 * (2 - 5 * u * u + 3 * u ** 3),
      0.5 * (u + 4 * u * u - 3 * u ** 3), 0.5 * (u ** 3 - u * u),
    ];
    this.mix(taps.map((k) => this.points[k]), share, moment.unit, moment.norms);
    moment.norms.forEach((length, i) => { moment.norms[i] = Math.exp(length); });
    for (let i = 0; i < moment.raw.length; i++) moment.raw[i] = moment.unit[i] * moment.norms[Math.floor(i / moment.dim)];
    moment.reach = Math.exp(Math.log(this.points[taps[1]].reach) * (1 - u) + Math.log(this.points[taps[2]].reach) * u);
    this.turn(taps, share, moment);
    moment.cached = null;
    return moment;
  }

  /** Mixes directions and lengths of four frames. */
  mix(frames, share, directions, lengths) {
    const dim = directions.length / lengths.length;
    const [a, b, c, d] = frames;
    const [p, q, r, s] = share;
    for (let i = 0; i < directions.length; i++)
      directions[i] = p * a.directions[i] + q * b.directions[i] + r * c.directions[i] + s * d.directions[i];
    for (let i = 0; i < lengths.length; i++) {
      let squares = 0;
      for (let j = i * dim; j < (i + 1) * dim; j++) squares += directions[j] ** 2;
      const factor = squares > 0 ? 1 / Math.sqrt(squares) : 0;
      for (let j = i * dim; j < (i + 1) * dim; j++) directions[j] *= factor;
      lengths[i] = p * a.lengths[i] + q * b.lengths[i] + r * c.lengths[i] + s * d.lengths[i];
    }
  }

  /** Class weights of the moment, and what they predict. */
  turn(taps, share, moment) {
    const { dim, weights, rays, unit } = moment;
    const classes = weights.length;
    const [directions, lengths] = [new Float32Array(classes * dim), new Float32Array(classes)];
    this.mix(taps.map((k) => this.rays[k]), share, directions, lengths);
    for (let j = 0; j < classes; j++) {
      for (let d = 0; d < dim; d++) {
        weights[j][d] = directions[j * dim + d];
        rays[j][d] = directions[j * dim + d] * lengths[j];
      }
    }
    for (let i = 0; i < moment.count; i++) {
      let [best, most] = [0, -Infinity];
      for (let j = 0; j < classes; j++) {
        let logit = 0;
        for (let d = 0; d < dim; d++) logit += rays[j][d] * unit[i * dim + d];
        if (logit > most) [best, most] = [j, logit];
      }
      moment.predictions[i] = best;
    }
    moment.judge();
  }
}

/** Plays the films of pictures side by side in step: button, slider, speed. */
class Player {
  constructor(element, state) {
    this.element = element;
    this.state = state;
    this.button = element.querySelector("[data-play]");
    this.slider = element.querySelector("[data-time]");
    this.output = element.querySelector("output");
    this.last = Number(this.slider.max);
    this.epoch = this.last;
    this.speed = 1;
    this.playing = false;
    // About half a second a quarter epoch, in all between 6 and 16 seconds.
    this.seconds = Math.max(6, Math.min(16, this.last * 2.2));
    this.button.addEventListener("click", () => this.toggle());
    this.slider.addEventListener("input", () => {
      const asked = Number(this.slider.value); // before anything else shows the epoch that was
      this.playing = false;
      this.seek(asked);
    });
    for (const button of element.querySelectorAll("[data-speed]")) {
      button.addEventListener("click", () => {
        this.speed = Number(button.dataset.speed);
        for (const other of button.parentElement.children) other.setAttribute("aria-pressed", other === button);
      });
    }
    this.show();
  }

  /** Plays or pauses; from the end it begins again. */
  toggle(on = !this.playing) {
    if (on && !this.playing && this.epoch >= this.last) this.seek(0);
    this.playing = on;
    this.show();
    // What was out of sight while it played comes up to the same moment.
    if (on) this.state.animate();
    else this.state.moment();
  }

  seek(epoch) {
    this.epoch = Math.max(0, Math.min(this.last, epoch));
    this.state.reveal = this.epoch >= this.last && this.playing && !stillness.matches ? 0 : 1;
    this.show();
    this.state.moment();
  }

  /** Goes on by so many seconds. */
  advance(seconds) {
    this.seek(this.epoch + (seconds * this.speed * this.last) / this.seconds);
    if (this.epoch >= this.last) this.toggle(false);
  }

  show() {
    const { button, slider, output, epoch, last, playing } = this;
    const end = epoch >= last;
    const name = playing ? "Pause" : end ? "Play the training" : "Play";
    if (button.textContent !== name) button.textContent = name;
    slider.value = epoch;
    slider.style.setProperty("--done", `${(100 * epoch) / last}%`);
    const told = end ? `after ${readable(last)} epochs` : `epoch ${epoch.toFixed(2)}`;
    output.textContent = told;
    slider.setAttribute("aria-valuetext", told);
  }
}
