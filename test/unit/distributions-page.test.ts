import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { distributionsPage, distributionsPath } from "../../build/distributions.ts";
import type { Source } from "../../src/engine/backend.ts";
import { layouts } from "../../src/layout/registry.ts";
import { bluewhale } from "../support/made_up_distribution.ts";

const page = readFileSync(distributionsPath, "utf8");

test("the page on distributions is what the layouts say", () => {
  expect(page, "When this is meant: npm run distributions").toBe(distributionsPage());
});

test("every layout has its rows in the page", () => {
  for (const { name, title } of layouts) expect(page).toContain(`| \`${name}\` | ${title} |`);
});

test("every refusal that the page explains is one that the program has", () => {
  const folder = `${import.meta.dir}/../../src`;
  const source = readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => readFileSync(`${folder}/${name}`, "utf8"))
    .join("\n");
  const explained = page.split("## When the node is refused")[1]?.match(/^\| \w.* \|/gm) ?? [];
  expect(explained.length).toBeGreaterThan(5);
  for (const row of explained.slice(1)) {
    const said = row.split(" | ")[0]?.slice(2) ?? "";
    for (const part of said.split(/ X\b| Y\b|two engines/)) expect(source).toContain(part.trim());
  }
});

describe("files that something else writes anew", () => {
  const rowWith = (source: Source): string => {
    const places = () => ({ ...bluewhale.places(nothing, undefined), source });
    const text = distributionsPage([{ ...bluewhale, places }]);
    return text.split("\n").find((line) => line.startsWith("| `bluewhale` |")) ?? "";
  };
  const nothing = {} as Parameters<typeof bluewhale.places>[0];

  test("are named with their templates and drop-in folders", () => {
    const row = rowWith({
      kind: "rendered",
      by: "whale",
      dropIns: ["/etc/whale/v3.d", "/etc/whale/v2.d"],
      templates: [
        { path: "/etc/whale/v3.tmpl", schema: 3 },
        { path: "/etc/whale/v2.tmpl", schema: 2 },
      ],
      base: "",
    });
    expect(row).toContain("| `/etc/whale/v3.tmpl`, else `/etc/whale/v2.tmpl` |");
    expect(row).toContain(
      "| `/etc/whale/v3.d/50-shimctl-OWNER.toml`, or `/etc/whale/v2.d/50-shimctl-OWNER.toml` |",
    );
  });

  test("are named with the folder that is merged into them", () => {
    const row = rowWith({ kind: "merged", by: "whale", folder: "/etc/whale/d", into: "/run/whale.toml" });
    expect(row).toContain("| - | `/etc/whale/d/50-shimctl-OWNER.toml` |");
  });

  test("are named as templates where they are that themselves", () => {
    expect(rowWith({ kind: "template", by: "whale" })).toContain("| the root file, for whale | - |");
  });
});
