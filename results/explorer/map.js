// The field as a picture: coloured by the error at the nearest held-out position, with their dots and the reader's point.

const MAP_PX = 96, SMALL_STEP = 0.02, LARGE_STEP = 0.2, DOT_REACH = 0.05;

function fieldMap(canvas, lens, state, errors, aspect) {
  const sorted = Array.from(errors).sort((a, b) => a - b), at = (share) => Math.max(1e-6, sorted[Math.floor(share * (sorted.length - 1))]);
  const low = at(0.02), high = Math.max(at(0.98), low * 1.01), background = document.createElement("canvas");
  const errorColour = (error) => colour(INFERNO, Math.log(error / low) / Math.log(high / low));

  // Anew where the distances or the set have changed.
  function fill() {
    if (!lens.items()) return paint(background, Array(MAP_PX * MAP_PX).fill([128, 128, 128]), MAP_PX);
    const rest = state.point.slice(2), step = (i) => (2 * i + 1) / MAP_PX - 1;
    const place = (i) => [step(i % MAP_PX), -step(Math.floor(i / MAP_PX)), ...rest];
    paint(background, Array.from({ length: MAP_PX * MAP_PX }, (_, i) => errorColour(lens.nearest(place(i)).error)), MAP_PX);
  }

  function draw() {
    const width = Math.round((canvas.clientWidth || 320) * (window.devicePixelRatio || 1)), height = Math.round(width * Math.max(0.4, Math.min(1.6, aspect)));
    Object.assign(canvas, { width, height });
    canvas.style.aspectRatio = `${width} / ${height}`;
    const pen = canvas.getContext("2d"), dot = width / 150, place = (p) => [((p[0] + 1) / 2) * width, ((1 - p[1]) / 2) * height];
    const disc = ([x, y], r) => {
      pen.beginPath();
      pen.arc(x, y, r, 0, 2 * Math.PI);
    };
    pen.imageSmoothingEnabled = false;
    pen.drawImage(background, 0, 0, width, height);
    for (const one of lens.items() || []) {
      disc(place(one.point), dot);
      pen.fillStyle = `rgb(${errorColour(one.error).map(Math.round)})`;
      pen.fill();
      pen.strokeStyle = "rgb(255 255 255 / .7)";
      pen.lineWidth = dot / 3;
      pen.stroke();
    }
    const [x, y] = place(state.point);
    for (const [style, wide] of [["#000", dot * 1.6], ["#fff", dot * 0.8]]) {
      pen.strokeStyle = style;
      pen.lineWidth = wide;
      disc([x, y], dot * 3.2);
      pen.moveTo(x - dot * 6, y);
      pen.lineTo(x + dot * 6, y);
      pen.moveTo(x, y - dot * 6);
      pen.lineTo(x, y + dot * 6);
      pen.stroke();
    }
  }
  return { low, high, fill, draw };
}

// Moves the point by pointer and keys: `go` is told where to.
function moveOver(canvas, lens, state, go) {
  const under = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(2 * (event.clientX - box.left)) / box.width - 1, 1 - (2 * (event.clientY - box.top)) / box.height, ...state.point.slice(2)];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    canvas.focus();
    const point = under(event), way = (one) => Math.hypot(one.point[0] - point[0], one.point[1] - point[1]);
    const [dot] = (lens.items() || []).toSorted((a, b) => way(a) - way(b));
    go(dot && way(dot) < DOT_REACH ? dot.point.slice() : point);
  });
  canvas.addEventListener("pointermove", (event) => canvas.hasPointerCapture(event.pointerId) && event.buttons && go(under(event)));
  canvas.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key], step = event.shiftKey ? LARGE_STEP : SMALL_STEP;
    if (way) go([state.point[0] + step * way[0], state.point[1] + step * way[1], ...state.point.slice(2)]);
    else if (event.key === "Home") go([0, 0, ...state.point.slice(2)]);
    else if (event.key === "Enter" && lens.items()) go(lens.nearest(state.point).point.slice());
    else return;
    event.preventDefault();
  });
}
