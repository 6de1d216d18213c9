// A box of the network's graph and its row in the layer table light up together.

for (const section of document.querySelectorAll(".network-parts")) {
  const light = (layer, on) =>
    section.querySelectorAll(`[data-layer="${layer}"]`).forEach((part) => part.classList.toggle("on", on));
  for (const part of section.querySelectorAll("[data-layer]")) {
    const { layer } = part.dataset;
    for (const event of ["pointerenter", "focus"]) part.addEventListener(event, () => light(layer, true));
    for (const event of ["pointerleave", "blur"]) part.addEventListener(event, () => light(layer, false));
  }
  for (const link of section.querySelectorAll("a[data-layer]")) {
    // To the row only as far as it takes, and without an entry in the history for each box.
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const behavior = stillness.matches ? "auto" : "smooth";
      document.getElementById(`layer-${link.dataset.layer}`)?.scrollIntoView({ block: "nearest", behavior });
    });
  }
}
