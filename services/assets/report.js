"use strict";
// Draws the report from the JSON block. Everything that came from a run goes onto the page as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const curves = data.curves;
  const charts = [];

  // -- small helpers ---------------------------------------------------------------------------------------------
  const el = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value === true) node.setAttribute(key, "");
      else if (value !== false && value != null) node.setAttribute(key, value);
    }
    node.append(...children.flat().filter((child) => child != null && child !== ""));
    return node;
  };
  const svg = (name, attributes, ...children) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
  const shown = (value, digits = 3) => {
    if (!isNumber(value)) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2).replace("-", "−");
    return value.toFixed(size >= 100 ? 1 : digits).replace("-", "−");
  };
  const signed = (value) => (isNumber(value) && value > 0 ? "+" : "") + shown(value);
  const percent = (value) => (isNumber(value) ? `${(100 * value).toFixed(0)} %` : "–");
  const interval = (pair) => (Array.isArray(pair) && pair.every(isNumber) ? `95 % interval ${signed(pair[0])} to ${signed(pair[1])}` : "");
  const tone = (value) => (!isNumber(value) || value === 0 ? "" : value > 0 ? "good" : "bad");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const faint = (hex, alpha) => hex + Math.round(alpha * 255).toString(16).padStart(2, "0");
  const has = (key) => (curves[key] ?? []).some(isNumber);
  const words = (key) => key.replaceAll("_", " ");

  const main = document.getElementById("content");
  const nav = el("nav", { "aria-label": "Sections" });
  const section = (id, title, lead, ...children) => {
    nav.append(el("a", { href: `#${id}` }, title));
    main.append(el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title), lead && el("p", { class: "lead" }, lead), children));
  };
  const table = (label, head, rows) => el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    el("table", {},
      el("thead", {}, el("tr", {}, head.map(([text, kind]) => el("th", { scope: "col", class: kind }, text)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, index) => (cell instanceof Node ? cell : el("td", { class: head[index][1] }, cell))))))));

  // -- head ------------------------------------------------------------------------------------------------------
  const number = (label, value, detail, kind) => el("div", { class: "card number" },
    el("div", { class: "label" }, label), el("div", { class: `value ${kind ?? ""}` }, value), el("div", { class: "detail" }, detail ?? ""));

  const head = () => {
    document.getElementById("head").append(
      el("h1", {}, data.title),
      el("p", { class: "sub" }, data.status),
      el("dl", { class: "facts" }, data.facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
      nav);
    if (data.alarms.length) main.append(el("ul", { class: "note", "aria-label": "Worth a look" }, data.alarms.map((text) => el("li", {}, text))));
    if (data.notes.length) main.append(el("details", { class: "note" }, el("summary", {}, `${data.notes.length} files could not be shown in full`), el("ul", {}, data.notes.map((text) => el("li", {}, text)))));
  };

  // -- test result -----------------------------------------------------------------------------------------------
  const gainCard = (test, key, label) => {
    const before = test[`${key}_before`], after = test[`${key}_after`];
    if (!isNumber(before) || !isNumber(after)) return null;
    return number(label, `${shown(before)} → ${shown(after)}`, `gain ${signed(after - before)}`, "");
  };

  // A gain with its confidence interval on a scale shared by all rows, so that lengths can be compared.
  const forest = (rows) => {
    const bounds = rows.flatMap((row) => [row.gain, ...(row.interval ?? [])]);
    const low = Math.min(0, ...bounds), high = Math.max(0, ...bounds), pad = 0.06 * (high - low || 1);
    const x = (value) => `${(100 * (value - low + pad)) / (high - low + 2 * pad)}%`;
    return el("div", { class: "card" }, el("h3", {}, "Gain on test prompts, with 95 % confidence intervals"),
      el("p", { class: "lead" }, "Bootstrap over prompts; the same noise before and after."),
      el("div", { class: "bar" }, rows.flatMap((row) => {
        const text = `${row.label}: ${signed(row.gain)} ${interval(row.interval)}`;
        const ink = { stroke: "var(--s0)", "stroke-width": 2.5, "stroke-linecap": "round" };
        const picture = svg("svg", { role: "img", "aria-label": text },
          svg("line", { x1: x(0), x2: x(0), y1: 0, y2: 26, stroke: "var(--swap)", "stroke-dasharray": "3 3" }));
        if (row.interval) picture.append(svg("line", { x1: x(row.interval[0]), x2: x(row.interval[1]), y1: 13, y2: 13, ...ink }));
        picture.append(svg("circle", { cx: x(row.gain), cy: 13, r: 5, fill: "var(--s0)" }));
        return [el("div", {}, el("div", {}, row.label), el("div", { class: `seed ${tone(row.gain)}` }, `${signed(row.gain)}${row.interval ? `  [${signed(row.interval[0])}, ${signed(row.interval[1])}]` : ""}`)), picture];
      })));
  };

  const results = () => {
    const test = data.test;
    if (!test) return;
    const gain = (after, before) => (isNumber(after) && isNumber(before) ? after - before : null);
    const rows = [
      { label: "Ground truth", gain: gain(test.ground_truth_after, test.ground_truth_before), interval: test.ground_truth_gain_ci95 },
      { label: "Ground truth at equal energy", gain: gain(test.ground_truth_after_energy_matched, test.ground_truth_before), interval: test.ground_truth_energy_matched_gain_ci95 },
      { label: "Reward", gain: gain(test.reward_after, test.reward_before), interval: test.reward_gain_ci95 },
    ].filter((row) => isNumber(row.gain)).map((row) => ({ ...row, interval: Array.isArray(row.interval) && row.interval.every(isNumber) ? row.interval : null }));
    const parts = Object.keys(test.parts_before ?? {}).filter((part) => part !== "ground_truth");
    section("results", "Result",
      `Test prompts with fresh noise, ${test.samples ?? "?"} samples of ${test.prompts ?? "?"} prompts, the initial policy against version ${test.policy_version ?? "?"}.`,
      el("div", { class: "numbers" },
        gainCard(test, "ground_truth", "Ground truth"),
        gainCard(test, "reward", "Reward"),
        isNumber(test.win_rate) && number("Clips better than before", percent(test.win_rate), `by more than 0.05: ${percent(test.win_rate_margin_0_05)}`),
        isNumber(test.ground_truth_after_energy_matched) && number("Ground truth at equal energy", shown(test.ground_truth_after_energy_matched), `gain ${signed(test.ground_truth_after_energy_matched - test.ground_truth_before)}`),
        gainCard(test, "diversity", "Diversity")),
      el("div", { class: "result" }, rows.length ? forest(rows) : null,
      parts.length ? el("div", { class: "card" }, el("h3", {}, "Parts of ground truth"),
        table("Parts of ground truth", [["part", ""], ["before", "num"], ["after", "num"], ["change", "num"]],
          parts.map((part) => [words(part), shown(test.parts_before[part]), shown(test.parts_after?.[part]),
            el("td", { class: `num ${tone(test.parts_after?.[part] - test.parts_before[part])}` }, signed(test.parts_after?.[part] - test.parts_before[part]))]))) : null));
  };

  // -- videos ----------------------------------------------------------------------------------------------------
  const videos = [];
  const side = (sample, when) => {
    const half = sample[when];
    const caption = el("div", { class: "when" }, `${when}${isNumber(half.reward) ? `, reward ${shown(half.reward)}` : ""}`);
    if (!half.video) return el("div", {}, el("div", { class: "missing" }, "no video"), caption);
    const video = el("video", { muted: true, loop: true, playsinline: true, preload: "auto", tabindex: "0", class: data.sample_height <= 128 ? "small" : "", "aria-label": `${when}: ${sample.prompt}` });
    video.muted = true;
    video.src = half.video;
    videos.push(video);
    return el("div", {}, video, caption);
  };
  const sampleCard = (sample) => {
    const dimensions = [...new Set([...Object.keys(sample.before.scores ?? {}), ...Object.keys(sample.after.scores ?? {})])];
    return el("article", { class: "card" },
      el("h3", { class: "prompt" }, String(sample.prompt ?? sample.name)),
      el("div", { class: "videos" }, side(sample, "before"), side(sample, "after")),
      dimensions.length ? table(`Scores: ${sample.prompt}`, [["score", ""], ["before", "num"], ["after", "num"], ["change", "num"]],
        dimensions.map((name) => {
          const before = sample.before.scores?.[name], after = sample.after.scores?.[name];
          const change = isNumber(before) && isNumber(after) ? after - before : null;
          return [name, shown(before), shown(after), el("td", { class: `num ${tone(change)}` }, signed(change))];
        })) : null,
      el("div", { class: "seed" }, `seed ${sample.seed ?? "?"}`));
  };
  const gallery = () => {
    if (!data.samples.length) return;
    const play = el("button", { type: "button" }, "Pause");
    const setPlaying = (on) => {
      videos.forEach((video) => { if (on) video.play().catch(() => {}); else video.pause(); });
      play.textContent = on ? "Pause" : "Play";
    };
    play.addEventListener("click", () => setPlaying(play.textContent === "Play"));
    const restart = el("button", { type: "button", onclick: () => { videos.forEach((video) => { video.currentTime = 0; }); setPlaying(true); } }, "From the start, in step");
    const speed = el("select", { id: "speed", onchange: (event) => videos.forEach((video) => { video.playbackRate = Number(event.target.value); }) },
      [["0.25", "¼"], ["0.5", "½"], ["1", "1"]].map(([value, text]) => el("option", { value, selected: value === "1" }, `${text} ×`)));
    section("videos", "Before and after", "The same prompt and the same noise, drawn by the initial and by the aligned policy.",
      el("div", { class: "tools" }, play, restart, el("label", { for: "speed" }, "Speed"), speed),
      el("div", { class: "grid" }, data.samples.map(sampleCard)));
    setPlaying(!matchMedia("(prefers-reduced-motion: reduce)").matches);
  };

  // -- charts ----------------------------------------------------------------------------------------------------
  let smoothing = curves.update.length > 20 ? 0.6 : 0;
  const smooth = (values) => {
    let average = null;
    return values.map((value) => {
      if (!isNumber(value)) return null;
      average = average === null ? value : smoothing * average + (1 - smoothing) * value;
      return average;
    });
  };

  const WHOLE_STEPS = [0, 1, 2, 3, 4, 5].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));

  // spec: {title, help, x, lines: [{label, values, band?: [low, high]}], guides: [{at, label}], range, wide, swaps, raw}
  const plotOptions = (spec, width) => {
    const ink = colour("--muted"), grid = colour("--grid");
    const bands = [], values = [spec.x];
    // Without a cursor the legend shows the newest values.
    const value = (plot, number, index, at) => shown(at == null ? last(plot.data[index]) : number);
    const series = [{ label: spec.xLabel ?? "update", value: (_, number) => String(Math.round(number ?? last(spec.x))) }];
    spec.lines.forEach((line, index) => {
      const stroke = colour(`--s${index % 4}`);
      if (line.band) {
        bands.push({ series: [series.length + 1, series.length], fill: faint(stroke, 0.16) });
        series.push({ label: line.bandLabels?.[0] ?? "p10", stroke: "transparent", points: { show: false }, value }, { label: line.bandLabels?.[1] ?? "p90", stroke: "transparent", points: { show: false }, value });
        values.push(...line.band);
      }
      const isSmoothed = smoothing > 0 && !spec.raw;
      if (isSmoothed) {
        series.push({ label: `${line.label}, as measured`, class: "visually-hidden", stroke: faint(stroke, 0.35), width: 1, points: { show: false }, value });
        values.push(line.values);
      }
      series.push({ label: line.label, stroke, width: 2, points: { show: spec.x.length < 2 || Boolean(spec.points), size: 6, fill: stroke }, spanGaps: true, value });
      values.push(isSmoothed ? smooth(line.values) : line.values);
    });
    const drawMarks = (plot) => {
      const { ctx, bbox } = plot;
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
      ctx.clip();
      ctx.lineWidth = devicePixelRatio;
      ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.strokeStyle = ctx.fillStyle = colour("--swap");
      ctx.textAlign = "left";
      ctx.textBaseline = "alphabetic";
      ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
      for (const at of spec.swaps ?? []) {
        const x = Math.round(plot.valToPos(at, "x", true));
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
        if (spec.wide) ctx.fillText("swap", x + 4 * devicePixelRatio, bbox.top + 12 * devicePixelRatio);
      }
      for (const guide of spec.guides ?? []) {
        const y = Math.round(plot.valToPos(guide.at, "y", true));
        ctx.beginPath();
        ctx.moveTo(bbox.left, y);
        ctx.lineTo(bbox.left + bbox.width, y);
        ctx.stroke();
        ctx.textAlign = "right";
        if (guide.label) ctx.fillText(guide.label, bbox.left + bbox.width - 4 * devicePixelRatio, y - 4 * devicePixelRatio);
      }
      ctx.restore();
    };
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "11px system-ui, sans-serif" };
    const options = {
      width, height: spec.wide ? 260 : 190, series, bands, legend: { live: true },
      cursor: { sync: { key: spec.xLabel ?? "update" }, drag: { x: true, y: false }, points: { size: 6 } },
      scales: { x: { time: false, range: (_, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) }, y: { range: yRange(spec) } },
      axes: [{ ...axis, size: 32, incrs: WHOLE_STEPS }, { ...axis, size: 62, values: (_, ticks) => ticks.map(axisNumber) }],
      hooks: { draw: [drawMarks] },
    };
    return [options, values];
  };
  const axisNumber = (value) => {
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-4 || size >= 1e5)) return value.toExponential(0).replace("-", "−");
    return String(Number(value.toPrecision(4))).replace("-", "−");
  };
  const yRange = (spec) => (_, low, high) => {
    if (spec.range) return spec.range;
    const guides = (spec.guides ?? []).map((guide) => guide.at);
    low = Math.min(low ?? 0, ...guides);
    high = Math.max(high ?? 1, ...guides);
    if (spec.fromZero) low = Math.min(0, low);
    const pad = 0.08 * (high - low || Math.abs(high) || 1);
    return [spec.fromZero && low === 0 ? 0 : low - pad, high + pad];
  };

  const draw = (chart) => {
    chart.plot?.destroy();
    const width = Math.max(chart.holder.clientWidth, 200);
    const [options, values] = plotOptions(chart.spec, width);
    chart.plot = new uPlot(options, values, chart.holder);
  };
  const last = (values) => values.findLast(isNumber);
  const describe = (spec) => `${spec.title}. ` + spec.lines.map((line) => `${line.label}: first ${shown(line.values.find(isNumber))}, last ${shown(last(line.values))}`).join("; ") + (spec.swaps?.length ? `; reference renewed at ${spec.swaps.join(", ")}` : "");

  const chartFigure = (spec) => {
    spec.lines = spec.lines.filter((line) => line.values?.some(isNumber));
    if (!spec.lines.length || !spec.x.length) return null;
    const chart = { spec, holder: el("div", { class: "plot", tabindex: "0", role: "img", "aria-label": describe(spec) }) };
    // Arrow keys move the cursor of every chart with the same axis; the legend shows the values.
    chart.holder.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      const count = spec.x.length, now = chart.plot.cursor.idx ?? (step > 0 ? -1 : count);
      const index = Math.max(0, Math.min(count - 1, now + step));
      chart.plot.setCursor({ left: chart.plot.valToPos(spec.x[index], "x"), top: 10 });
    });
    charts.push(chart);
    return el("figure", { class: `card chart ${spec.wide ? "wide" : ""}` }, el("figcaption", {}, el("h3", {}, spec.title), el("span", { class: "help" }, spec.help ?? "")), chart.holder);
  };
  const curve = (title, help, lines, extra = {}) => chartFigure({
    title, help, x: curves.update, swaps: data.swaps, ...extra,
    lines: lines.filter(([, key]) => has(key)).map(([label, key, band]) => ({ label, values: curves[key], band: band && has(band[0]) ? band.map((name) => curves[name]) : null })),
  });
  const validation = () => {
    const rows = data.validation.filter((row) => isNumber(row.policy_version));
    if (!rows.length) return [];
    const x = rows.map((row) => row.policy_version);
    const dimensions = [...new Set(rows.flatMap((row) => Object.keys(row.scores ?? {})))];
    const figure = (title, help, lines) => chartFigure({ title, help, x, xLabel: "version", points: true, raw: true, swaps: data.swaps, lines });
    return [
      figure("Validation reward", "Prompts that are not learned from, always the same noise.", [{ label: "reward", values: rows.map((row) => row.reward_mean) }]),
      dimensions.length ? figure("Validation scores", "Mean raw score per dimension.", dimensions.map((name) => ({ label: name, values: rows.map((row) => row.scores?.[name]?.mean ?? row.scores?.[name]) }))) : null,
    ];
  };

  const KNOWN = new Set(["reward_mean", "reward_std", "reward_p10", "reward_p90", "gap_mean", "loss", "implicit_accuracy", "margin_mean", "margin_abs_mean", "chosen_error_delta", "rejected_error_delta", "gate_openness", "kl_reference", "kl_base", "gradient_norm", "learning_rate", "latent_std_chosen", "latent_std_rejected", "drop_rate", "diversity", "update"]);

  const rewardCharts = () => {
    if (!curves.update.length) return;
    const pick = el("select", { id: "smoothing", onchange: (event) => { smoothing = Number(event.target.value); charts.forEach(draw); } },
      [["0", "as measured"], ["0.6", "light"], ["0.9", "strong"]].map(([value, text]) => el("option", { value, selected: Number(value) === smoothing }, text)));
    section("reward", "Reward", "What the candidates of each update got. Bands hold the middle 80 % of candidates; dashed lines mark where the policy became its own reference.",
      el("div", { class: "tools" }, el("label", { for: "smoothing" }, "Smoothing"), pick, el("span", { class: "hint" }, "Drag to zoom, double click to reset, arrow keys move the cursor.")),
      el("div", { class: "grid" },
        curve("Reward", "The scalar that ranks a group; mean of all candidates of an update.", [["mean", "reward_mean", ["reward_p10", "reward_p90"]]], { wide: true }),
        data.dimensions.map((name) => curve(`Score ${name}`, "Raw scores of the reward model.", [["mean", `scores.${name}.mean`, [`scores.${name}.p10`, `scores.${name}.p90`]]])),
        curve("Spread of rewards", "Standard deviation within an update. Towards 0: nothing left to tell apart.", [["std", "reward_std"]], { fromZero: true }),
        curve("Gap", "Reward of chosen minus rejected.", [["gap", "gap_mean"]], { fromZero: true }),
        validation()));
  };
  const learningCharts = () => {
    const other = Object.keys(curves).filter((key) => !KNOWN.has(key) && !key.includes(".") && has(key));
    const figures = [
      curve("Loss", "Diffusion-DPO; log 2 where policy and reference agree.", [["loss", "loss"]], { guides: [{ at: Math.LN2, label: "log 2" }] }),
      curve("Implicit accuracy", "Share of draws in which the policy prefers chosen more than its reference does; ties count half.", [["accuracy", "implicit_accuracy"]], { range: [0, 1], guides: [{ at: 0.5 }] }),
      curve("Margin", "Mean logit of the loss.", [["mean", "margin_mean"], ["mean size", "margin_abs_mean"]], { guides: [{ at: 0 }] }),
      curve("Error against reference", "Below 0: better denoised than by the reference. Both above 0 and rising: displacement.", [["chosen", "chosen_error_delta"], ["rejected", "rejected_error_delta"]], { guides: [{ at: 0 }] }),
      curve("Gate openness", "Weight of a pair in the gradient; ½ at the start, near 0 nothing is learned.", [["gate", "gate_openness"]], { range: [0, 1], guides: [{ at: 0.5 }] }),
      curve("Distance of predictions", "Mean squared difference to the reference and to the initial policy.", [["to reference", "kl_reference"], ["to base", "kl_base"]], { fromZero: true }),
      curve("Gradient norm", "Before clipping; the line is where clipping begins.", [["norm", "gradient_norm"]], { fromZero: true, guides: [{ at: data.max_gradient_norm, label: "clip" }] }),
      curve("Dropped groups", "Share without two usable, different rewards.", [["drop rate", "drop_rate"]], { range: [0, 1] }),
      curve("Latent deviation", "A rise of chosen over rejected: rewards like contrast.", [["chosen", "latent_std_chosen"], ["rejected", "latent_std_rejected"]]),
      curve("Diversity within groups", "Deviation of latents between candidates of one prompt.", [["diversity", "diversity"]], { fromZero: true }),
      curve("Learning rate", "", [["learning rate", "learning_rate"]], { fromZero: true, raw: true }),
      other.map((key) => curve(words(key), "", [[words(key), key]])),
    ].flat().filter(Boolean);
    if (figures.length) section("learning", "Learning", "What each update did to the policy.", el("div", { class: "grid" }, figures));
  };
  const timeCharts = () => {
    const phases = Object.keys(curves).filter((key) => key.startsWith("seconds.") && has(key));
    if (!phases.length) return;
    const order = ["seconds.generate", "seconds.score", "seconds.update", "seconds.wait"];
    phases.sort((one, other) => (order.indexOf(one) + 9) % 9 - ((order.indexOf(other) + 9) % 9));
    const total = (key) => curves[key].reduce((sum, value) => sum + (value ?? 0), 0);
    const all = phases.reduce((sum, key) => sum + total(key), 0);
    section("time", "Time", "Where the seconds of an update go.",
      el("div", { class: "grid" },
        curve("Seconds per update", "", phases.map((key) => [key.slice(8), key]), { fromZero: true, wide: true }),
        el("div", { class: "card wide" }, table("Seconds per phase", [["phase", ""], ["mean seconds", "num"], ["share", "num"]],
          phases.map((key) => [key.slice(8), shown(total(key) / curves[key].filter(isNumber).length), percent(total(key) / all)])))));
  };

  // -- pairs, config ---------------------------------------------------------------------------------------------
  const pairs = () => {
    if (!data.pairs.length) return;
    const holder = el("div", {});
    const title = el("output", { for: "pair-update", "aria-live": "polite" });
    const slider = el("input", { type: "range", id: "pair-update", min: 0, max: data.pairs.length - 1, value: data.pairs.length - 1, oninput: () => show() });
    const show = () => {
      const entry = data.pairs[Number(slider.value)];
      const dropped = Object.entries(entry.dropped_reasons);
      title.textContent = `update ${entry.update}: ${entry.pairs.length} pairs${dropped.length ? `, dropped: ${dropped.map(([reason, count]) => `${count} ${words(reason)}`).join(", ")}` : ""}`;
      holder.replaceChildren(table("Pairs of the update", [["prompt", ""], ["chosen", "num"], ["rejected", "num"], ["gap", "num"], ["seeds", ""]],
        entry.pairs.map((pair) => [el("td", { class: "prompt" }, String(pair.prompt ?? "")), shown(pair.chosen_reward), shown(pair.rejected_reward),
          shown(isNumber(pair.chosen_reward) && isNumber(pair.rejected_reward) ? pair.chosen_reward - pair.rejected_reward : null),
          el("td", { class: "seed" }, `${pair.chosen_seed} / ${pair.rejected_seed}`)])));
    };
    section("pairs", "Pairs", "What the policy learned from: the chosen and the rejected candidate of each group.",
      el("div", { class: "card" }, el("div", { class: "tools" }, el("label", { for: "pair-update" }, "Update"), slider, title), holder));
    show();
  };
  const settings = () => {
    section("config", "Configuration", "The resolved configuration of the run.",
      el("div", { class: "card" }, el("pre", { tabindex: "0", "aria-label": "config.yaml" }, data.config)));
    const rows = Object.entries(data.versions);
    if (data.reward_model) section("reward-model", "Reward model", "What every score of the run came from.", el("div", { class: "card" }, el("pre", { tabindex: "0", "aria-label": "reward_model.json" }, JSON.stringify(data.reward_model, null, 2))));
    if (data.calibration) section("calibration", "Calibration", "How raw scores became the reward; frozen for the whole run.", el("div", { class: "card" }, el("pre", { tabindex: "0", "aria-label": "calibration.json" }, JSON.stringify(data.calibration, null, 2))));
    if (rows.length) section("versions", "Versions", "", el("div", { class: "card" }, table("Versions", [["package", ""], ["version", ""]], rows.map(([name, version]) => [name, String(version)]))));
    document.getElementById("foot").append(`Written ${data.written} by onlinevpo. This page is complete: it loads nothing from anywhere.`);
  };

  head();
  results();
  gallery();
  rewardCharts();
  learningCharts();
  timeCharts();
  pairs();
  settings();
  if (!curves.update.length) main.prepend(el("p", { class: "note" }, "No update is finished yet; write this report again later with `onlinevpo report`."));
  charts.forEach(draw);

  // Charts are canvases: they follow the window's width and the colour scheme by being drawn again.
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; charts.forEach(draw); } });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(draw));
  document.documentElement.dataset.ready = "true";
})();
