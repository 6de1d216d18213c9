// Three-dimensional embeddings: on the unit sphere or raw, turned by dragging, by keys or by themselves.

const sphere = {
  draw(picture) {
    const { ctx, side, model, placed, depth, state } = picture;
    const half = side / 2;
    const radius = half * 0.84;
    const turn = this.turn(state);
    const raw = state.view === "raw";
    const source = raw ? model.raw : model.unit;
    const scale = raw ? radius / model.reach : radius;
    // turn() makes an array for each point, which would be too much for thousands of them sixty times a second.
    const [cy, sy] = [Math.cos(state.yaw), Math.sin(state.yaw)];
    const [ct, st] = [Math.cos(state.tilt), Math.sin(state.tilt)];
    for (let i = 0; i < model.count; i++) {
      const [x, y, z] = [source[3 * i], source[3 * i + 1], source[3 * i + 2]];
      const away = z * cy - x * sy;
      placed[2 * i] = half + (x * cy + z * sy) * scale;
      placed[2 * i + 1] = half - (y * ct - away * st) * scale;
      depth[i] = y * st + away * ct;
    }
    const rays = (raw ? model.rays : model.weights).map(([x, y, z]) => turn(x, y, z));
    if (!raw) {
      const light = ctx.createRadialGradient(half * 0.75, half * 0.65, 0, half, half, radius);
      light.addColorStop(0, colours.get("lit"));
      light.addColorStop(1, colours.get("shade"));
      ctx.fillStyle = light;
      ctx.beginPath();
      ctx.arc(half, half, radius, 0, 2 * Math.PI);
      ctx.fill();
    }
    if (raw) this.rays(ctx, half, radius, rays, false);
    picture.points((i) => depth[i] < 0, raw ? 0.4 : 0.16);
    if (!raw) this.graticule(ctx, half, radius, turn);
    if (raw) this.rays(ctx, half, radius, rays, true);
    picture.points((i) => depth[i] >= 0, 0.8);
    for (const [index, [x, y, z]] of rays.entries()) {
      const opacity = z >= -0.1 ? 1 : 0.35;
      picture.disc(half + x * radius, half - y * radius, index, opacity);
      const length = Math.hypot(x, y, z) || 1;
      const beyond = radius * (1 + 0.11 / length);
      picture.name(half + x * beyond, half - y * beyond, index, opacity);
    }
  },

  /** The rotation of the present view: about the vertical axis, then towards the reader. */
  turn({ yaw, tilt }) {
    const [cy, sy, ct, st] = [Math.cos(yaw), Math.sin(yaw), Math.cos(tilt), Math.sin(tilt)];
    return (x, y, z) => {
      const depth = z * cy - x * sy;
      return [x * cy + z * sy, y * ct - depth * st, y * st + depth * ct];
    };
  },

  /** Class weights among raw points, those on the near side or on the far. */
  rays(ctx, half, radius, rays, near) {
    ctx.lineWidth = 1;
    ctx.strokeStyle = colours.get("muted");
    ctx.globalAlpha = near ? 0.7 : 0.25;
    ctx.beginPath();
    for (const [x, y, z] of rays) {
      if (z >= 0 !== near) continue;
      ctx.moveTo(half, half);
      ctx.lineTo(half + x * radius, half - y * radius);
    }
    ctx.stroke();
    ctx.globalAlpha = 1;
  },

  graticule(ctx, half, radius, turn) {
    ctx.beginPath();
    const line = (at, from, to) => {
      let down = false;
      for (let degrees = from; degrees <= to; degrees += 5) {
        const [x, y, z] = turn(...at(degrees));
        if (z >= 0) ctx[down ? "lineTo" : "moveTo"](half + x * radius, half - y * radius);
        down = z >= 0;
      }
    };
    const rad = Math.PI / 180;
    const place = (lat, lon) =>
      [Math.cos(lat * rad) * Math.cos(lon * rad), Math.sin(lat * rad), Math.cos(lat * rad) * Math.sin(lon * rad)];
    for (let lat = -60; lat <= 60; lat += 30) line((lon) => place(lat, lon), 0, 360);
    for (let lon = 0; lon < 360; lon += 30) line((lat) => place(lat, lon), -90, 90);
    ctx.moveTo(half + radius, half);
    ctx.arc(half, half, radius, 0, 2 * Math.PI);
    ctx.lineWidth = 0.75;
    ctx.strokeStyle = colours.get("muted");
    ctx.globalAlpha = 0.35;
    ctx.stroke();
    ctx.globalAlpha = 1;
  },

  /** Whether a point can be pointed at: the far side of the sphere cannot. */
  visible(picture, i) {
    return picture.state.view === "raw" || picture.depth[i] >= 0;
  },
};
