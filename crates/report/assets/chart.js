// Values of the charts under the pointer or the arrow keys. The curves themselves are in the page already.

for (const svg of document.querySelectorAll("svg[data-chart]")) {
  const chart = data.charts[svg.dataset.chart];
  if (!chart) continue;
  const [left, right, low, high] = chart.frame;
  const cursor = svg.querySelector(".cursor");
  const places = [...new Set(chart.series.flatMap((series) => series.x))]
    .filter((x) => x !== null)
    .sort((a, b) => a - b);
  let at = -1;

  /** Index of the value nearest to x in values that may hold gaps. */
  const nearest = (values, x) => {
    let best = -1;
    values.forEach((value, i) => {
      if (value === null) return;
      if (best < 0 || Math.abs(value - x) < Math.abs(values[best] - x)) best = i;
    });
    return best;
  };

  const show = (x, clientX, clientY) => {
    const i = nearest(places, x);
    if (i < 0) return;
    at = i;
    const place = left + ((right - left) * (places[i] - low)) / (high - low);
    const box = svg.getBoundingClientRect();
    cursor.setAttribute("transform", `translate(${place} 0)`);
    svg.classList.add("on");
    const rows = chart.series
      .map((series) => [series.label, nearest(series.x, places[i]), series])
      .filter(([, found]) => found >= 0)
      .map(([label, found, series]) => [label, readable(series.y[found])]);
    tip.show(
      clientX ?? box.left + (place * box.width) / svg.viewBox.baseVal.width,
      clientY ?? box.top + box.height / 3,
      `${chart.x_label} ${readable(places[i])}`,
      rows,
      svg,
    );
  };
  const hide = () => {
    svg.classList.remove("on");
    tip.hide(svg);
  };

  const point = (event) => {
    const box = svg.getBoundingClientRect();
    const unit = ((event.clientX - box.left) * svg.viewBox.baseVal.width) / box.width;
    show(low + ((unit - left) * (high - low)) / (right - left), event.clientX, event.clientY);
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  // A finger leaves as soon as it has pointed; its values stay until the chart loses the focus.
  svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !places.length) return;
    event.preventDefault();
    const stride = event.shiftKey ? 10 : 1;
    show(places[Math.max(0, Math.min(places.length - 1, at + step * stride))]);
  });
}
