// A map of many cells: how many lie at each place, and their mean colour, drawn without WebGL.
// It has the part of regl-scatterplot's interface that plots.js uses.

const SIDES = [[20000, 2], [2000, 4], [0, 7]]; // more cells in view than this: px of a place, as points are sized
const REACH = 5; // px within which the pointer finds a cell
const FADED = 1e-4; // weight of what is not selected, where something is: 10,000 cells hide none that is selected

export default function createDensity({ canvas }) {
  Object.assign(canvas.style, { width: "100%", height: "100%" });
  const pen = canvas.getContext("2d"), listeners = { select: [], deselect: [], pointover: [], pointout: [] };
  const emit = (name, content) => listeners[name].forEach((listener) => listener(content));
  let x = new Float32Array(0), y = x, code = x, colours = new Uint8Array(3); // red, green, blue of each code
  let picture = null, side = 2; // what was drawn last, without the line; null: to be drawn anew
  let passes = null, chosen = null; // Uint8Array of each cell, or null: all pass, none is chosen
  let target = [0, 0], distance = 1, mode = "panZoom", line = null, over = -1, waiting = false;

  const size = () => [canvas.clientWidth || 1, canvas.clientHeight || 1];
  const unit = () => size()[1] / 2 / distance; // px of 1 in the map

  // From the map to px of the canvas; taken once for many cells, because it asks the page for its layout.
  function places() {
    const [width, height] = size(), scale = unit(), [tx, ty] = target;
    return [(value) => width / 2 + (value - tx) * scale, (value) => height / 2 - (value - ty) * scale];
  }

  function soon(anew = true) {
    if (anew) picture = null;
    if (!waiting) requestAnimationFrame(paint);
    waiting = true;
  }

  function paint() {
    waiting = false;
    const [width, height] = size();
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height, picture] = [width, height, null];
    picture ??= counted(width, height);
    pen.clearRect(0, 0, width, height);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(picture, 0, 0, picture.width * side, picture.height * side);
    if (line) {
      pen.strokeStyle = "#0072b2";
      pen.stroke(path(line, true));
    }
  }

  // A picture of how many cells lie at each place.
  function counted(width, height) {
    side = sideOf(width, height);
    const w = Math.ceil(width / side), h = Math.ceil(height / side), sums = new Float32Array(4 * w * h), scale = unit() / side;
    const left = w / 2 - target[0] * scale, top = h / 2 + target[1] * scale;
    for (let k = 0; k < x.length; k++) {
      if (passes && !passes[k]) continue;
      const column = Math.floor(left + x[k] * scale), row = Math.floor(top - y[k] * scale);
      if (column < 0 || row < 0 || column >= w || row >= h) continue;
      const at = 4 * (row * w + column), weight = chosen && !chosen[k] ? FADED : 1, colour = 3 * code[k];
      sums[at] += weight * colours[colour];
      sums[at + 1] += weight * colours[colour + 1];
      sums[at + 2] += weight * colours[colour + 2];
      sums[at + 3] += weight;
    }
    let most = 1;
    for (let at = 3; at < sums.length; at += 4) if (sums[at] > most) most = sums[at];
    const pixels = new ImageData(w, h), data = pixels.data, full = Math.log1p(most);
    for (let at = 0; at < sums.length; at += 4) {
      const count = sums[at + 3];
      if (!count) continue;
      for (let channel = 0; channel < 3; channel++) data[at + channel] = sums[at + channel] / count;
      const part = Math.log1p(count < 1 ? count / FADED : count) / full; // a single cell is seen
      data[at + 3] = 255 * (count < 1 ? 0.08 + 0.17 * Math.min(1, part) : 0.3 + 0.7 * part);
    }
    const small = new OffscreenCanvas(w, h);
    small.getContext("2d").putImageData(pixels, 0, 0);
    return small;
  }

  function sideOf(width, height) {
    const wide = width / 2 / unit(), high = height / 2 / unit();
    let seen = 0;
    for (let k = 0; k < x.length; k++)
      if (Math.abs(x[k] - target[0]) <= wide && Math.abs(y[k] - target[1]) <= high && !(passes && !passes[k])) seen++;
    return SIDES.find(([least]) => seen >= least)[1];
  }

  function path(points, close) {
    const drawn = new Path2D();
    points.forEach(([px, py], k) => (k ? drawn.lineTo(px, py) : drawn.moveTo(px, py)));
    if (close) drawn.closePath();
    return drawn;
  }

  // The cells within a line: it is filled in a picture of the map, in which every cell looks up its pixel.
  function within(points) {
    const [width, height] = size(), filled = new OffscreenCanvas(width, height), context = filled.getContext("2d");
    context.fill(path(points, true));
    const inside = context.getImageData(0, 0, width, height).data, found = [], [toX, toY] = places();
    for (let k = 0; k < x.length; k++) {
      if (passes && !passes[k]) continue;
      const px = Math.round(toX(x[k])), py = Math.round(toY(y[k]));
      if (px >= 0 && py >= 0 && px < width && py < height && inside[4 * (py * width + px) + 3]) found.push(k);
    }
    return found;
  }

  function nearest(px, py) {
    const [toX, toY] = places();
    let best = -1, least = REACH * REACH;
    for (let k = 0; k < x.length; k++) {
      if (passes && !passes[k]) continue;
      const away = (toX(x[k]) - px) ** 2 + (toY(y[k]) - py) ** 2;
      if (away < least) [best, least] = [k, away];
    }
    return best;
  }

  function mark(indices) {
    chosen = indices.length ? new Uint8Array(x.length) : null;
    for (const k of indices) chosen[k] = 1;
    soon();
  }

  function take(indices) {
    mark(indices);
    if (indices.length) emit("select", { points: indices });
    else emit("deselect");
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    const start = [event.offsetX, event.offsetY], from = target;
    let moved = false;
    if (mode === "lasso" || event.shiftKey) line = [start];
    canvas.onpointermove = ({ offsetX, offsetY }) => {
      moved ||= Math.hypot(offsetX - start[0], offsetY - start[1]) > 3;
      if (line) line.push([offsetX, offsetY]);
      else target = [from[0] - (offsetX - start[0]) / unit(), from[1] + (offsetY - start[1]) / unit()];
      soon(!line);
    };
    canvas.onpointerup = ({ offsetX, offsetY }) => {
      canvas.onpointermove = hover;
      canvas.onpointerup = null;
      const drawn = line;
      line = null;
      if (!moved) take([nearest(offsetX, offsetY)].filter((k) => k >= 0));
      else if (drawn) take(within(drawn));
    };
  });
  const hover = ({ offsetX, offsetY }) => {
    const found = nearest(offsetX, offsetY);
    if (found === over) return;
    over = found;
    if (found < 0) emit("pointout");
    else emit("pointover", found);
  };
  canvas.onpointermove = hover;
  canvas.addEventListener("pointerleave", () => emit("pointout"));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const [width, height] = size(), factor = Math.exp(event.deltaY / 400), before = unit();
    distance = Math.min(10, Math.max(0.001, distance * factor));
    const dx = event.offsetX - width / 2, dy = event.offsetY - height / 2;
    target = [target[0] + dx / before - dx / unit(), target[1] - dy / before + dy / unit()];
    soon();
  }, { passive: false });
  new ResizeObserver(() => soon()).observe(canvas);

  return {
    set({ mouseMode, cameraTarget, cameraDistance, pointColor }) {
      mode = mouseMode ?? mode;
      target = cameraTarget ?? target;
      distance = cameraDistance ?? distance;
      if (pointColor) colours = Uint8Array.from(pointColor.flatMap((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16))));
      soon();
    },
    get: (name) => ({ cameraTarget: target, cameraDistance: distance })[name],
    async draw(points) {
      ({ x, y, valueA: code } = points);
      picture = passes = chosen = null;
      paint();
    },
    select: (indices) => mark(indices),
    deselect: () => mark([]),
    filter(indices) {
      passes = new Uint8Array(x.length);
      for (const k of indices) passes[k] = 1;
      soon();
    },
    unfilter() {
      passes = null;
      soon();
    },
    subscribe: (name, listener) => listeners[name].push(listener),
    getScreenPosition(index) {
      const [toX, toY] = places();
      return [toX(x[index]), toY(y[index])];
    },
  };
}
