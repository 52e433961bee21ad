// @ts-check
/** A small line of the last minute. */

const SVG = "http://www.w3.org/2000/svg";
export const POINTS = 60;
const HEIGHT = 24;
const HEADROOM = 1.25;

/**
 * Draws into the host, newest at the right, from zero up: a flat figure makes a flat line.
 * @param {Element} host
 * @param {(number|null)[]} values  oldest first; null leaves a gap
 * @param {number} ceiling  the least value that the full height means
 */
export function drawSparkline(host, values, ceiling) {
  const svg = host.querySelector("svg") ?? host.appendChild(empty());
  const top = Math.max(ceiling, HEADROOM * Math.max(0, ...values.map((value) => value ?? 0)));
  const from = POINTS - values.length;
  let path = "";
  values.forEach((value, at) => {
    if (value === null) return;
    const pen = path && values[at - 1] !== null ? "L" : "M";
    path += `${pen}${from + at} ${(HEIGHT * (1 - value / top)).toFixed(2)}`;
  });
  svg.querySelector("path")?.setAttribute("d", path);
}

/** @returns {SVGSVGElement} */
function empty() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", `0 0 ${POINTS - 1} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(SVG, "path"));
  return svg;
}
