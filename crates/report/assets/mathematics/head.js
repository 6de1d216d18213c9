// Arithmetic of the mathematics: the library's tables read between their places, and loss and gradients made of them.

/** Numbers of a table: f32 in base64. */
function floats(text) {
  const view = new DataView(bytes(text).buffer);
  return Float32Array.from({ length: view.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/** A table's value at a place from 0 to 1, linearly between its entries. */
function between(table, place) {
  const at = Math.max(0, Math.min(1, place)) * (table.length - 1);
  const i = Math.min(Math.floor(at), table.length - 2);
  return table[i] + (table[i + 1] - table[i]) * (at - i);
}

/** A loss with its tables. Settings are { m, lambda }. */
class Loss {
  constructor(found) {
    Object.assign(this, found);
    this.targets = found.targets.map((t) => ({ ...t, values: floats(t.values), slopes: floats(t.slopes) }));
    this.effective = found.effective_margins.map((e) => ({ ...e, factors: floats(e.factors) }));
    this.schedules = found.schedules.map((s) => ({ ...s, lambdas: floats(s.lambdas) }));
    this.margins = [...new Set(this.targets.map((t) => t.margin))].filter((m) => m !== null);
    /** Whether the target's cosine is bent at all. */
    this.bends = this.effective.length > 0;
  }

  /** The integer margin in force: that of the settings, where the loss has it. */
  marginIn({ m }) {
    return this.margins.includes(m) ? m : this.margins.at(-1) ?? null;
  }

  /** The tables to read for some settings: the λ below and above, and how far it is from the one to the other. */
  tables(settings) {
    const m = this.marginIn(settings);
    if (this.read?.m === m && this.read.lambda === settings.lambda) return this.read;
    const share = ({ lambda }) => 1 / (1 + lambda);
    const tables = this.targets.filter((table) => table.margin === m);
    const i = Math.max(0, tables.findLastIndex((table) => table.lambda <= settings.lambda));
    const [low, high] = [tables[i], tables[i + 1]];
    const part = high ? (share(low) - share(settings)) / (share(low) - share(high)) : 0;
    return (this.read = { m, lambda: settings.lambda, low, high, part });
  }

  /** h and h′ at an angle. Between the λ of two tables they go linearly with 1 / (1 + λ). */
  target(theta, settings) {
    const { low, high, part } = this.tables(settings);
    const read = (name) => {
      const value = between(low[name], theta / Math.PI);
      return high ? value + (between(high[name], theta / Math.PI) - value) * part : value;
    };
    return { value: read("values"), slope: read("slopes") };
  }

  /** Angle, h and logit of each class for an embedding in the plane. */
  classes(x, weights, label, settings) {
    const norm = Math.max(Math.hypot(...x), 1e-12);
    const unit = x.map((v) => v / norm);
    const kappa = this.constant ?? norm;
    const rows = weights.map((w, j) => {
      const length = Math.max(Math.hypot(...w), 1e-12);
      const direction = w.map((v) => v / length);
      const cos = direction[0] * unit[0] + direction[1] * unit[1];
      const sin = direction[0] * unit[1] - direction[1] * unit[0];
      const theta = Math.atan2(Math.abs(sin), cos);
      const h = j === label ? this.target(theta, settings) : { value: cos, slope: 1 };
      const omega = this.by_norms ? length : 1;
      return { length, direction, cos, theta, h, omega, logit: kappa * omega * h.value };
    });
    return { norm, unit, kappa, rows };
  }

  /** Logits, probabilities, loss and gradients of an embedding and class weights in the plane. */
  head(x, weights, label, settings) {
    const { norm, unit, kappa, rows } = this.classes(x, weights, label, settings);
    const largest = Math.max(...rows.map((row) => row.logit));
    const sum = rows.reduce((total, row) => total + Math.exp(row.logit - largest), 0);
    const dx = [0, 0];
    for (const [j, row] of rows.entries()) {
      row.probability = Math.exp(row.logit - largest) / sum;
      const g = row.probability - (j === label ? 1 : 0);
      const { direction, cos, h, omega, length } = row;
      row.gradient = [0, 1].map((d) =>
        kappa * g * ((omega * h.slope * (unit[d] - cos * direction[d])) / length + (this.by_norms ? h.value * direction[d] : 0)));
      for (const d of [0, 1]) {
        const along = this.constant === null ? h.value * unit[d] : 0;
        dx[d] += omega * g * ((kappa * h.slope * (direction[d] - cos * unit[d])) / norm + along);
      }
    }
    return { rows, loss: largest + Math.log(sum) - rows[label].logit, dx };
  }
}

const losses = data.mathematics.losses.map((found) => new Loss(found));

// The library's own loss and gradients at a few places, against what is computed here. Tables hold h to 2e-4 and its
// slope to 1e-3; lengths of the samples multiply that by 3 at most.
{
  let worst = 0;
  const differ = (found, exact) => {
    const error = Math.abs(found - exact) / (1 + Math.abs(exact));
    worst = error <= worst ? worst : error;
  };
  for (const loss of losses) {
    for (const sample of loss.samples) {
      const found = loss.head(sample.embedding, sample.class_weights, 0, { m: sample.margin, lambda: sample.lambda });
      differ(found.loss, sample.loss);
      for (const d of [0, 1]) {
        differ(found.dx[d], sample.d_embedding[d]);
        found.rows.forEach((row, j) => differ(row.gradient[d], sample.d_class_weights[j][d]));
      }
    }
  }
  document.documentElement.dataset.mathematics = worst < 2e-3 ? "right" : `wrong by ${worst.toExponential(1)}`;
}
