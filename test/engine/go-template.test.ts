import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { readTemplate } from "../../src/engine/containerd/template.ts";
import { templateEdit } from "../../src/engine/containerd/template_edit.ts";
import { renderBlock, setBlock } from "../../src/toml/block.ts";
import { findBlocks } from "../../src/toml/edit.ts";
import { anyTemplate, random } from "../support/any_template.ts";
import { whyNot } from "../support/needs.ts";

const problem = whyNot("templates before Go itself", { programs: ["go"] });

/** What k3s does with a template, as far as Go's part goes: parses it, adds "base", executes it. */
const program = `package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

func render(text string) (out string, ok bool) {
	parsed, err := template.New("compiled_template").Parse(text)
	if err != nil {
		return "", false
	}
	if _, err := parsed.New("base").Parse("version = 3\\n"); err != nil {
		return "", false
	}
	var buffer strings.Builder
	data := map[string]any{"Program": "k3s", "IsRunningInUserNS": false, "ExtraRuntimes": map[string]string{"crun": "x"}}
	if err := parsed.Execute(&buffer, data); err != nil {
		return "", false
	}
	return buffer.String(), true
}

func main() {
	var templates []string
	if err := json.NewDecoder(os.Stdin).Decode(&templates); err != nil {
		panic(err)
	}
	rendered := make([]*string, len(templates))
	for at, text := range templates {
		if out, ok := render(text); ok {
			rendered[at] = &out
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(rendered); err != nil {
		panic(err)
	}
}
`;

/** What Go renders of each; null where it refuses the template, as k3s then does not start. */
function byGo(templates: readonly string[]): (string | null)[] {
  const folder = mkdtempSync(`${tmpdir()}/shimctl-go-`);
  try {
    writeFileSync(`${folder}/main.go`, program);
    const { status, stdout, stderr } = spawnSync("go", ["run", "main.go"], {
      cwd: folder,
      input: JSON.stringify(templates),
      encoding: "utf8",
      env: { ...process.env, GOWORK: "off", GO111MODULE: "off", GOFLAGS: "" },
      maxBuffer: 1 << 28,
    });
    expect([status, status === 0 ? "" : stderr]).toEqual([0, ""]);
    return JSON.parse(stdout) as (string | null)[];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const body =
  '[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.h]\nruntime_type = "io.containerd.h.v2"\n';
const block = renderBlock({ owner: "default", body });

describe.skipIf(problem !== undefined)("Go", () => {
  test("renders our block as it is, behind what it rendered without it, wherever we would add one", () => {
    const tried: { original: string; added: string }[] = [];
    for (let seed = 1; seed <= 6000; seed++) {
      const original = anyTemplate(random(seed));
      const { toml, back, closed } = readTemplate(original);
      if (closed !== undefined) continue;
      try {
        if (findBlocks(toml).length > 0) continue;
      } catch {
        continue;
      }
      tried.push({ original, added: back(setBlock(toml, { owner: "default", body })) });
    }
    const rendered = byGo(tried.flatMap(({ original, added }) => [original, added]));
    let accepted = 0;
    for (const [at, { original }] of tried.entries()) {
      const [without, withOurs] = [rendered[2 * at], rendered[2 * at + 1]];
      // What Go refuses without us it refuses with us, and the other way round.
      expect([original, withOurs === null]).toEqual([original, without === null]);
      if (typeof without !== "string" || typeof withOurs !== "string") continue;
      accepted++;
      expect([original, withOurs.startsWith(without)]).toEqual([original, true]);
      const rest = withOurs.slice(without.length).replaceAll("\r\n", "\n").trim();
      expect([original, rest]).toEqual([original, block.trim()]);
    }
    expect(accepted).toBeGreaterThan(400);
  }, 120_000);

  test("renders of a template of ours the base one and our block, and nothing of the comment", () => {
    const goal = {
      path: "/t",
      owner: "default",
      block: body,
      base: '{{ template "base" . }}',
      mustStay: false,
    };
    const made = new TextDecoder().decode(templateEdit(goal, null)?.after ?? new Uint8Array());
    expect(byGo([made])).toEqual([`version = 3\n\n\n${block}`]);
  }, 60_000);
});
