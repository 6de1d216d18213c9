// The margin: ψ and its slope, what λ leaves of it, and the schedule of λ.

const section = document.getElementById("maths");
/** The loss whose margin is shown: the first that bends the cosine. */
const bent = losses.find((loss) => loss.bends) ?? losses[0];
const choices = {
  m: bent?.margins ?? [],
  lambda: [...new Set((bent?.effective ?? []).map((curve) => curve.lambda))],
};

const angleAxis = {
  range: [0, 180],
  ticks: [0, 45, 90, 135, 180].map((v) => [v, `${v}°`]),
  title: "angle θ",
  format: (v) => `θ = ${v.toFixed(1)}°`,
};
const cosineAxis = {
  range: [1, -1],
  ticks: [1, 0.5, 0, -0.5, -1].map((v) => [v, String(v).replace("-", "−")]),
  title: "cos θ",
  format: (v) => `cos θ = ${v.toFixed(3)}`,
};
const degrees = Array.from({ length: 361 }, (_, i) => i / 2);
const radians = (v) => (v * Math.PI) / 180;
/** An angle on the axis chosen. */
const placed = (v) => (settings.axis === "angle" ? v : Math.cos(radians(v)));
const ticks = (values) => values.map((v) => [v, String(v).replace("-", "−")]);
const lambdaText = (lambda) => `λ = ${lambda}`;
const mText = () => (choices.m.length ? `m = ${settings.m}, ` : "");
/** λ, and the part of the mixture that is the margin. */
const share = (lambda) => `${lambda} (${Number((100 / (1 + lambda)).toPrecision(2))}% margin)`;
/** Points of h or h′ for some settings. */
const points = (which, chosen, loss = bent) => degrees.map((v) => [placed(v), loss.target(radians(v), chosen)[which]]);
const paint = (loss) => `s-loss${loss.colour}`;

/** Angles at which the slope is lowest between higher neighbours: the flattest spots. */
function flattest() {
  const slope = degrees.map((v) => bent.target(radians(v), settings).slope);
  return degrees.filter((_, i) => slope[i - 1] > slope[i] + 1e-9 && slope[i + 1] > slope[i] + 1e-9);
}

/** Curves of all margins, the chosen one strong, and the plain cosine. */
function family(which) {
  const others = choices.m.filter((m) => m !== settings.m && m !== 1);
  const named = (m) => (m === null ? bent.title : `m = ${m}`);
  const curve = (m, strong) => ({
    name: named(m), label: named(m), strong, paint: strong ? paint(bent) : "s-muted",
    points: points(which, { m, lambda: settings.lambda }),
  });
  return [
    { name: which === "value" ? "cos θ" : "of cos θ", label: which === "value" ? "cos θ" : "1", dashed: true, paint: "s-ink",
      points: degrees.map((v) => [placed(v), which === "value" ? Math.cos(radians(v)) : 1]) },
    ...others.map((m) => curve(m, false)),
    ...losses.filter((loss) => loss.bends && loss !== bent).map((loss) => ({
      name: loss.title, label: loss.title, named: "over", paint: paint(loss), points: points(which, settings, loss),
    })),
    ...(settings.m === 1 ? [] : [curve(settings.m, true)]),
  ];
}

function nice(low, high, step) {
  const values = [];
  for (let v = Math.ceil(low / step) * step; v <= high + 1e-9; v += step) values.push(v);
  return ticks(values);
}

/** Lowest of h and highest of h′ over all margins, without λ: axes that stay where they are. */
const reach = {
  low: Math.floor(Math.min(-1, ...(bent?.targets ?? []).map((t) => Math.min(...t.values)))),
  high: Math.ceil(Math.max(1, ...(bent?.targets ?? []).map((t) => Math.max(...t.slopes)))),
};

const pictures = {
  target: () => ({
    title: `${mText()}${lambdaText(settings.lambda)}: in place of cos θ`,
    summary: "The margin function falls faster than the cosine.",
    x: settings.axis === "angle" ? angleAxis : cosineAxis,
    y: { range: [reach.low, 1], ticks: nice(reach.low, 1, reach.low < -3 ? 2 : 1) },
    room: 46,
    curves: family("value"),
    marks: flattest().map((v) => ({ x: placed(v), y: bent.target(radians(v), settings).value })),
  }),
  slope: () => ({
    title: "Its slope with respect to cos θ",
    summary: "The slope is zero at the flat spots when λ is 0.",
    x: settings.axis === "angle" ? angleAxis : cosineAxis,
    y: { range: [0, reach.high], ticks: nice(0, reach.high, reach.high > 8 ? 4 : 1) },
    room: 46,
    curves: family("slope"),
    marks: flattest().map((v, i) => {
      const { slope } = bent.target(radians(v), settings);
      return { x: placed(v), y: slope, text: i === 0 ? `slope ${Number(slope.toFixed(2))}` : "" };
    }),
  }),
  mixture: () => ({
    title: `The mixture h, ${mText().replace(", ", "")}`,
    x: angleAxis,
    y: { range: [reach.low, 1], ticks: nice(reach.low, 1, reach.low < -3 ? 2 : 1) },
    room: 52,
    curves: several((lambda) => degrees.map((v) => [v, bent.target(radians(v), { m: settings.m, lambda }).value])),
  }),
  effective: () => {
    const table = (lambda) => bent.effective.find((e) => e.margin === settings.m && e.lambda === lambda);
    const highest = Math.max(...choices.m, 2);
    return {
      title: `Effective margin, ${mText().replace(", ", "")}`,
      x: angleAxis,
      y: { range: [1, highest + 0.5], ticks: nice(1, highest, 1) },
      curves: several((lambda) => {
        const { factors } = table(lambda) ?? { factors: [] };
        return Array.from(factors, (factor, i) => [(180 * i) / (factors.length - 1), factor]);
      }).map((curve) => ({ ...curve, named: "start" })),
    };
  },
  schedule: () => ({
    title: "λ over the training",
    x: { range: [0, 100], ticks: [0, 25, 50, 75, 100].map((v) => [v, `${v}%`]), title: "of the steps", format: (v) => `${v.toFixed(0)}% of the steps` },
    y: { range: [0, squeezed(1000)], ticks: [0, 1, 10, 100, 1000].map((v) => [squeezed(v), v]) },
    curves: bent.schedules.map(({ title, lambdas }, i) => ({
      name: `λ ${title}`, label: title, named: "over", paint: i ? "s-muted" : paint(bent), strong: i === 0,
      points: Array.from(lambdas, (v, k) => [(100 * k) / (lambdas.length - 1), squeezed(v)]),
      read: (v) => 10 ** v - 1,
    })),
  }),
};

/** λ for an axis that shows 0 as well as 1000: log₁₀(1 + λ). */
function squeezed(lambda) {
  return Math.log10(1 + lambda);
}

/** One curve for each of a few λ, and the chosen one. */
function several(made) {
  const fixed = [0, 1, 5, 20].filter((lambda) => choices.lambda.includes(lambda));
  const all = [...new Set([...fixed, settings.lambda])].sort((a, b) => a - b);
  return all.map((lambda) => ({
    name: lambdaText(lambda), label: lambdaText(lambda), points: made(lambda),
    strong: lambda === settings.lambda, paint: lambda === settings.lambda ? paint(bent) : "s-muted",
  }));
}

if (section && bent) {
  section.hidden = false;
  settings.m = bent.margin ?? bent.margins.at(-1) ?? null;
  for (const row of section.querySelectorAll("[data-settings]")) {
    const wanted = row.dataset.settings.split(" ");
    if (wanted.includes("axis")) segments(row, { label: "Horizontal axis", name: "axis", options: [["angle", "over θ"], ["cosine", "over cos θ"]] });
    if (wanted.includes("m") && choices.m.length > 1)
      slider(row, { label: "margin m", name: "m", values: choices.m, format: (m) => String(m) });
    if (wanted.includes("lambda") && choices.lambda.length > 1)
      slider(row, { label: "annealing λ", name: "lambda", values: choices.lambda, format: share });
  }
  for (const [name, content] of Object.entries(pictures)) {
    const host = section.querySelector(`[data-plot="${name}"]`);
    if (!host || (name === "schedule" && !bent.schedules.length) || (name === "effective" && !bent.effective.length)) continue;
    const plot = new Plot(host, content);
    settings.changed.push(() => plot.draw());
  }
}
