// Kernels of a lens in a page: held-out ones by set, and the model's at a point. `state` is what the reader has chosen.

function lensKernels(said, arrays, state) {
  const shape = arrays.true.shape.slice(2), [channels, K] = shape, size = channels * K * K, [, count, d] = arrays.points.shape;
  const model = said.runs ? kernelModel(said.model, arrays) : null, grid = said.runs ? null : said.grid;

  // Held-out items of the chosen set; a set without any has null.
  function itemsOf(set) {
    if (!said.sets[set].true) return null;
    return Array.from({ length: count }, (_, i) => ({
      index: set * count + i,
      point: Array.from(arrays.points.data.subarray((set * count + i) * d, (set * count + i + 1) * d)),
      error: arrays.error.data[set * count + i],
    }));
  }
  const sets = said.sets.map((_, set) => itemsOf(set)), items = () => sets[state.set];

  // Distance of two points: x and y as they are, distances on their way in vergence of -1 to 1.
  const far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1], ...said.distances.map((one, i) => scaled(a[2 + i], one.vergence) - scaled(b[2 + i], one.vergence)));
  const nearest = (point) => items() && items().reduce((best, one) => {
    const way = far(one.point, point);
    return way < best.way ? { ...one, way } : best;
  }, { way: Infinity });

  // Latents that the model decodes at a point: the prior's mean, or those of a unit, moved by the sliders.
  function latentsAt(point) {
    const own = said.sets[state.set].latent;
    if (own !== undefined) {
      const [, images, length] = arrays.latents.shape;
      return Array.from({ length: images }, (_, g) => arrays.latents.data.subarray((own * images + g) * length, (own * images + g + 1) * length));
    }
    const z = Float32Array.from(arrays.origin ? arrays.origin.data : model.prior(point));
    state.moves.forEach((move, s) => z.forEach((_, i) => (z[i] += move * arrays.directions.data[s * z.length + i])));
    return [z];
  }

  // Of a model that is too large for a page: the nearest of its kernels on a grid.
  function onGrid(point) {
    const place = grid.axes.reduce((before, axis, i) => {
      const at = axis.map((level) => (i < 2 ? Math.abs(level - point[i]) : Math.abs(diopters(level) - diopters(point[i]))));
      return before * axis.length + at.indexOf(Math.min(...at));
    }, 0);
    return arrays.grid.data.subarray(place * size, (place + 1) * size);
  }

  return {
    shape,
    items,
    nearest,
    trueKernel: (one) => arrays.true.data.subarray(one.index * size, (one.index + 1) * size),
    // [C K K], or null where the page has none.
    predict: (point) => (model ? model.predict(point, latentsAt(point)) : grid ? onGrid(point) : null),
    hasSliders: () => model !== null && said.sets[state.set].latent === undefined,
  };
}

// One channel [K K] of a kernel, or for null the mean of all.
function channelOf(kernel, [channels, K], channel) {
  const size = K * K;
  if (channel !== null) return kernel.subarray(channel * size, (channel + 1) * size);
  return Float32Array.from({ length: size }, (_, i) => {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += kernel[c * size + i];
    return sum / channels;
  });
}

// Curves of a kernel [K K] at a point, in units of a pixel of `um` micrometres, or of a pixel where that is 0.
function measuredKernel(kernel, K, azimuth, um) {
  const length = um || 1, frequency = um ? 1000 / um : 1;
  const stripes = (direction) => mtf(kernel, K, direction).map(({ at, value }) => ({ at: at * frequency, value }));
  return {
    energy: encircledEnergy(kernel, K).map(({ at, value }) => ({ at: at * length, value })),
    tangential: stripes(azimuth),
    sagittal: stripes(azimuth + Math.PI / 2),
    radius: rmsRadius(kernel, K),
  };
}
