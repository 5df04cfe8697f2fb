/** A line of a plot. */
export interface Series {
  readonly label: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface Plot {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  readonly series: readonly Series[];
}

const [width, height] = [720, 400];
const area = { left: 72, right: 250, top: 48, bottom: 56 };
/** Told apart by people who see few colours as well (Okabe and Ito), on light and on dark pages. */
const colors = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/** An SVG with both axes logarithmic: a straight line is a power, a parallel one is the same times a factor. */
export function plot({ title, x, y, series }: Plot): string {
  const all = series.flatMap(({ points }) => points);
  const across = scale(
    all.map(([value]) => value),
    area.left,
    width - area.right,
  );
  const up = scale(
    all.map(([, value]) => value),
    height - area.bottom,
    area.top,
  );
  const [right, bottom] = [width - area.right, height - area.bottom];
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    text(area.left, 24, title, 'font-size="15" font-weight="bold"'),
    ...across.ticks.flatMap((tick) => [
      line(across.at(tick), area.top, across.at(tick), bottom, "#e4e4e4"),
      text(across.at(tick), bottom + 18, short(tick), 'text-anchor="middle"'),
    ]),
    ...up.ticks.flatMap((tick) => [
      line(area.left, up.at(tick), right, up.at(tick), "#e4e4e4"),
      text(area.left - 8, up.at(tick) + 4, short(tick), 'text-anchor="end"'),
    ]),
    text((area.left + right) / 2, height - 14, x, 'text-anchor="middle"'),
    text(0, 0, y, `text-anchor="middle" transform="translate(18 ${(area.top + bottom) / 2}) rotate(-90)"`),
    ...series.flatMap(({ label, points }, index) => {
      const color = colors[index % colors.length] ?? "#000000";
      const places = points.map(([a, b]) => [across.at(a), up.at(b)] as const);
      const row = area.top + 8 + index * 20;
      return [
        `<polyline fill="none" stroke="${color}" stroke-width="2" points="${places.map((place) => place.map(round).join(",")).join(" ")}"/>`,
        ...places.map(([a, b]) => `<circle cx="${round(a)}" cy="${round(b)}" r="3" fill="${color}"/>`),
        line(right + 16, row, right + 36, row, color, 2),
        text(right + 42, row + 4, label),
      ];
    }),
    "</svg>",
  ];
  return `${parts.join("\n")}\n`;
}

function scale(
  values: readonly number[],
  from: number,
  to: number,
): { at: (value: number) => number; ticks: number[] } {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const steps = [1, 2, 5].flatMap((digit) =>
    Array.from({ length: 12 }, (_, power) => Number(`${digit}e${power - 3}`)),
  );
  steps.sort((a, b) => a - b);
  const bottom = steps.findLast((step) => step <= low) ?? low;
  const top = steps.find((step) => step >= high && step > bottom) ?? high;
  const at = (value: number) =>
    from + ((Math.log(value) - Math.log(bottom)) / (Math.log(top) - Math.log(bottom))) * (to - from);
  const within = steps.filter((step) => step >= bottom && step <= top);
  // Too many for their labels: the powers of ten alone.
  const ticks = within.length > 10 ? within.filter((step) => Number.isInteger(Math.log10(step))) : within;
  return { at, ticks };
}

function line(x1: number, y1: number, x2: number, y2: number, color: string, thick = 1): string {
  return `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="${color}" stroke-width="${thick}"/>`;
}

function text(x: number, y: number, content: string, more = ""): string {
  return `<text x="${round(x)}" y="${round(y)}" fill="#222222"${more === "" ? "" : ` ${more}`}>${escaped(content)}</text>`;
}

function short(value: number): string {
  return value >= 1000 ? `${round(value / 1000)}k` : String(value);
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escaped(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
