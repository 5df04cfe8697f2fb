/**
 * Go's `filepath.Glob` on folders that were listed before: containerd resolves its imports with it.
 * Pure: where a folder has not been listed yet, its path is reported as wanted instead.
 */
export function expandGlob(
  pattern: string,
  folders: ReadonlyMap<string, readonly string[] | undefined>,
): { matches: string[]; wanted: string[] } {
  const parts = pattern.split("/").filter((part) => part !== "");
  const wanted: string[] = [];
  let places: string[] = [""];
  for (const [index, part] of parts.entries()) {
    const last = index === parts.length - 1;
    const next: string[] = [];
    for (const place of places) {
      if (!hasMeta(part) && !last) {
        next.push(`${place}/${part}`);
        continue;
      }
      const folder = place === "" ? "/" : place;
      if (!folders.has(folder)) {
        wanted.push(folder);
        continue;
      }
      const names = folders.get(folder) ?? [];
      const matcher = hasMeta(part) ? globMatcher(part) : (name: string) => name === part;
      for (const name of names) if (matcher(name)) next.push(`${place}/${name}`);
    }
    places = next;
  }
  return { matches: places, wanted };
}

export function hasMeta(part: string): boolean {
  return /[*?[\\]/.test(part);
}

/**
 * Go's `filepath.Match` for one path element: `*`, `?`, `[class]` and `\` escapes. A malformed pattern
 * matches nothing.
 */
export function globMatcher(pattern: string): (name: string) => boolean {
  let source = "";
  for (let i = 0; i < pattern.length; i++) {
    const char = pattern.charAt(i);
    if (char === "*") source += "[^/]*";
    else if (char === "?") source += "[^/]";
    else if (char === "\\") source += escapeRegExp(pattern.charAt(++i));
    else if (char === "[") {
      const end = pattern.indexOf("]", i + 2);
      if (end < 0) return () => false;
      const inside = pattern.slice(i + 1, end);
      const negated = inside.startsWith("^");
      const set = (negated ? inside.slice(1) : inside).replace(/[\][\\^]/g, "\\$&");
      source += `[${negated ? "^" : ""}${set}]`;
      i = end;
    } else source += escapeRegExp(char);
  }
  let expression: RegExp;
  try {
    expression = new RegExp(`^${source}$`, "su");
  } catch {
    // A reversed range, which Go accepts and which matches nothing.
    return () => false;
  }
  return (name) => expression.test(name);
}

function escapeRegExp(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
}
