import { describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { YAML } from "bun";
import { runNowhere } from "../support/nowhere.ts";
import { valueAt } from "../support/rendered.ts";

const golden = new URL("../fixtures/render/runtimeclass.yaml", import.meta.url).pathname;
const update = "SHIMCTL_UPDATE_FIXTURES=1 bun test test/e2e/runtime-class.test.ts";
const selector = { nodeSelector: { "katacontainers.io/kata-runtime": "true" } };

const render = (line: string, env: Readonly<Record<string, string>> = {}) =>
  runNowhere(`render --for runtimeclass ${line}`, { env });

/** What is rendered for a handler file. */
async function renderFile(content: string) {
  const folder = mkdtempSync(join(tmpdir(), "shimctl-class-"));
  try {
    writeFileSync(join(folder, "handlers.toml"), `format = 1\n${content}`);
    return await render(`-f ${join(folder, "handlers.toml")}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe("RuntimeClasses", () => {
  test("are what the golden file has", async () => {
    const { code, out, err } = await render("runsc kata-qemu kata kata-qemu-snp-debug");
    expect([code, err]).toEqual([0, ""]);
    if (process.env["SHIMCTL_UPDATE_FIXTURES"] === "1") writeFileSync(golden, out);
    expect(out, `When this is meant: ${update}`).toBe(existsSync(golden) ? readFileSync(golden, "utf8") : "");
  });

  test("start with comments of at most 100 characters, as every document does", async () => {
    const { out } = await render("kata-qemu runsc");
    const comments = out.split("\n").filter((line) => line.startsWith("#"));
    expect(out).toStartWith(comments.join("\n"));
    for (const word of ["TO APPLY", "TO TAKE IT BACK", "LOOK FIRST"]) expect(comments).toContain(`# ${word}`);
    expect(Math.max(...comments.map((line) => line.length))).toBeLessThanOrEqual(100);
  });

  test("are in the JSON document as text", async () => {
    const { out } = await render("kata-qemu");
    const { result, text, handlers, ...rest } = JSON.parse((await render("kata-qemu --json")).out);
    expect([result, rest.for, text, handlers[0].name]).toEqual(["ok", "runtimeclass", out, "kata-qemu"]);
  });

  test("know Kata by its preset under another name, with the overhead of its shim", async () => {
    const { out } = await renderFile('[handlers.sandbox]\npreset = "kata-clh"\n');
    expect(YAML.parse(out)).toMatchObject({
      handler: "sandbox",
      overhead: { podFixed: { cpu: "250m", memory: "130Mi" } },
      scheduling: selector,
    });
  });

  test.each([
    '[handlers.own.containerd]\nruntime_type = "io.containerd.kata-own.v2"\n',
    '[handlers.own.containerd]\nruntime_type = "io.containerd.own.v2"\nruntime_path = "/opt/kata/bin/containerd-shim-kata-v2"\n',
    '[handlers.own.crio]\nruntime_path = "/usr/bin/containerd-shim-kata-v2"\nruntime_type = "vm"\n',
  ])("know Kata where it is spelled out, and nothing of its overhead: %j", async (content) => {
    const found = YAML.parse((await renderFile(content)).out);
    expect([valueAt(found, "scheduling"), valueAt(found, "overhead")]).toEqual([selector, undefined]);
  });

  test("take nothing else for Kata", async () => {
    const content = '[handlers.kata-not.containerd]\nruntime_type = "io.containerd.katana.v2"\n';
    expect(valueAt(YAML.parse((await renderFile(content)).out), "scheduling")).toBeUndefined();
  });

  test("mind no variable that other commands have a use for", async () => {
    const plain = await render("kata-qemu");
    expect(await render("kata-qemu", { SHIMCTL_ENGINE: "crio", SHIMCTL_PREFIX: "/opt/x" })).toEqual(plain);
  });
});

describe("what makes no RuntimeClass is refused", () => {
  test.each(["--engine crio", "--engine-version 2.1", "--prefix /opt/x", "--snapshotter nydus"])(
    "%s",
    async (option) => {
      const { code, out, err } = await render(`kata-qemu ${option}`);
      expect([code, out]).toEqual([2, ""]);
      expect(err).toContain(`Cannot use ${option.split(" ")[0]}, as a RuntimeClass says nothing of that`);
      expect(err).toContain("leave it out");
    },
  );

  test("a name with a dot, which containerd takes and Kubernetes does not", async () => {
    const { code, out, err } = await renderFile('[handlers."kata.v2"]\npreset = "kata"\n');
    expect([code, out]).toEqual([2, ""]);
    expect(err).toContain("Cannot make a RuntimeClass for this handler");
    expect(err).toContain("at most 63, for a handler: kata.v2");
    expect(err).toContain("give it such a name in the handler file");
  });

  test("no handler at all", async () => {
    expect((await renderFile("[handlers]\n")).err).toContain("the handler file defines no handler");
  });
});
