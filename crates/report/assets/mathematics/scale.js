// The scale κ: what the length of an embedding does to the loss, and what the softmax can reach without it.

{
  const host = document.querySelector('[data-plot="scale"]');
  const longest = 20;
  const lengths = Array.from({ length: 121 }, (_, i) => (longest * i) / 120);
  const angles = [10, 17, 40, 50];
  const weights = [[1, 0], [0, 1]];
  const axis = {
    range: [0, longest],
    ticks: [0, 5, 10, 15, 20].map((v) => [v, v]),
    title: "κ",
    format: (v) => `κ = ${v.toFixed(1)}`,
  };
  const height = { range: [0, 4], ticks: ticks([0, 1, 2, 3, 4]) };

  /** Loss of embeddings of class 1 at fixed angles to its weight, against their length. */
  const against = (loss) => () => ({
    title: loss.bends ? `Loss: ${loss.title}` : `Loss: ${loss.title.toLowerCase()}`,
    x: axis,
    y: height,
    curves: angles.map((angle) => ({
      name: `θ = ${angle}°`, label: `${angle}°`, strong: angle === 40, paint: angle === 40 ? paint(loss) : "s-muted",
      points: lengths.map((length) => {
        const x = [Math.cos(radians(angle)), Math.sin(radians(angle))].map((v) => v * Math.max(length, 1e-6));
        return [length, loss.head(x, weights, 0, settings).loss];
      }),
    })),
    room: 34,
  });

  /** The smallest loss of C classes whose weights stand at equal angles, as far apart as they can. */
  const floor = (classes, s) => Math.log1p((classes - 1) * Math.exp((-s * classes) / (classes - 1)));
  const counts = [...new Set([data.mathematics.classes, 1000, 100000])].filter((c) => c > 1).sort((a, b) => a - b);
  const best = () => ({
    title: "The best possible loss at scale s",
    x: { ...axis, ticks: [0, 1, 5, 10, 15, 20].map((v) => [v, v]), title: "scale s", format: (v) => `s = ${v.toFixed(1)}` },
    y: { range: [0, 12], ticks: ticks([0, 4, 8, 12]) },
    curves: counts.map((count) => ({
      name: `${count.toLocaleString("en")} classes`, label: `C = ${count.toLocaleString("en")}`, named: "right", paint: "s-ink",
      strong: count === data.mathematics.classes, points: lengths.map((s) => [s, floor(count, s)]),
    })),
    marks: [{ x: 1, line: true }],
  });

  if (host && bent) {
    // Losses that use ‖w‖ have the κ of others at weights of length 1, as here.
    const shown = losses.filter((loss) => !loss.by_norms && loss.constant === null);
    for (const content of [...shown.map(against), best]) {
      const box = host.appendChild(document.createElement("div"));
      const plot = new Plot(box, content);
      settings.changed.push(() => plot.draw());
    }
    settings.set({});
  }
}
