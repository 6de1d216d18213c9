// Two-dimensional embeddings: raw, or on the unit circle with each class's density outside it.

const plane = {
  /** Draws a picture and remembers in `picture.placed` where each point lies. */
  draw(picture) {
    const { ctx, side, state } = picture;
    if (state.view === "raw") this.raw(picture, ctx, side / 2);
    else this.unit(picture, ctx, side / 2);
  },

  raw(picture, ctx, half) {
    const { model, placed } = picture;
    const scale = (half * 0.86) / model.reach;
    const circles = this.circles(half, scale, model.reach);
    this.ruler(ctx, half, circles);
    for (let i = 0; i < model.count; i++) {
      placed[2 * i] = half + model.raw[2 * i] * scale;
      placed[2 * i + 1] = half - model.raw[2 * i + 1] * scale;
    }
    picture.points(() => true, 0.72);
    this.lengths(ctx, half, circles);
    // On top of the points: where the rays end is what they tell.
    this.rays(picture, ctx, half, model.rays);
  },

  unit(picture, ctx, half) {
    const { model, placed, state } = picture;
    const radius = half * 0.56;
    ctx.strokeStyle = colours.get("rule");
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.arc(half, half, radius, 0, 2 * Math.PI);
    ctx.stroke();
    for (const [index, density] of model.densities().entries()) {
      if (state.only !== null && state.only !== index) continue;
      ctx.beginPath();
      for (let bin = 0; bin <= density.length; bin++) {
        const angle = (2 * Math.PI * bin) / density.length;
        const r = radius + (half * 0.9 - radius) * density[bin % density.length];
        ctx.lineTo(half + r * Math.cos(angle), half - r * Math.sin(angle));
      }
      ctx.arc(half, half, radius, 0, 2 * Math.PI, false);
      ctx.fillStyle = colours.get(`class${index % 10}`);
      ctx.globalAlpha = 0.55;
      ctx.fill("evenodd");
      ctx.globalAlpha = 1;
    }
    for (let i = 0; i < model.count; i++) {
      placed[2 * i] = half + model.unit[2 * i] * radius;
      placed[2 * i + 1] = half - model.unit[2 * i + 1] * radius;
    }
    picture.points(() => true, 0.8);
    this.rays(picture, ctx, half, model.weights);
  },

  /** Class weights as rays whose ends carry the colour and the name of their class. */
  rays(picture, ctx, half, rays) {
    const reach = half * 0.87;
    ctx.strokeStyle = colours.get("ink");
    ctx.lineWidth = 0.75;
    ctx.beginPath();
    for (const [x, y] of rays) {
      ctx.moveTo(half, half);
      ctx.lineTo(half + x * reach, half - y * reach);
    }
    ctx.stroke();
    rays.forEach(([x, y], index) => picture.disc(half + x * reach, half - y * reach, index, 1));
    const taken = [];
    for (const [index, [x, y]] of rays.entries()) {
      const [dx, dy] = picture.model.weights[index];
      const at = (beyond) => [half + x * reach + dx * beyond, half - y * reach - dy * beyond];
      // A name that would lie on another stands before its disc instead of beyond it.
      const clear = (place) => taken.every(([left, top]) => Math.hypot(left - place[0], top - place[1]) >= 12);
      const place = clear(at(13)) ? at(13) : at(-13);
      taken.push(place);
      picture.name(...place, index, 1);
    }
  },

  /** Circles of round lengths, so that raw pictures can be compared: [length, radius, opacity], fading to the middle. */
  circles(half, scale, reach) {
    const lowest = Math.floor(Math.log10(reach)) - 1;
    const lengths = [0, 1, 2].flatMap((more) => [1, 2, 5].map((digit) => digit * 10 ** (lowest + more)));
    return lengths
      .map((length) => [length, length * scale, Math.min(1, ((length * scale) / half - 0.2) / 0.15)])
      .filter(([, radius, opacity]) => opacity > 0 && radius < half * 0.95);
  },

  /** Draws the circles. */
  ruler(ctx, half, circles) {
    ctx.setLineDash([2, 4]);
    ctx.strokeStyle = colours.get("muted");
    ctx.lineWidth = 0.75;
    for (const [, radius, opacity] of circles) {
      ctx.globalAlpha = opacity;
      ctx.beginPath();
      ctx.arc(half, half, radius, 0, 2 * Math.PI);
      ctx.stroke();
    }
    ctx.setLineDash([]);
    ctx.globalAlpha = 1;
  },

  /** Names the circles. */
  lengths(ctx, half, circles) {
    ctx.font = "11px system-ui, sans-serif";
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    ctx.lineJoin = "round";
    ctx.lineWidth = 3;
    ctx.strokeStyle = colours.get("raised");
    ctx.fillStyle = colours.get("muted");
    for (const [length, radius, opacity] of circles) {
      ctx.globalAlpha = opacity;
      ctx.strokeText(readable(length), half, half + radius);
      ctx.fillText(readable(length), half, half + radius);
    }
    ctx.globalAlpha = 1;
  },

  /** Whether a point can be pointed at. */
  visible() {
    return true;
  },
};
