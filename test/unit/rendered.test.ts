import { describe, expect, test } from "bun:test";
import type { Source } from "../../src/engine/backend.ts";
import { ShimctlError } from "../../src/error.ts";
import { k3sServer } from "../../src/layout/k3s.ts";
import { handler, MemoryNode } from "../support/memory.ts";

/** A distribution that marks the file it writes, and has drop-ins and no templates. */
const source: Source = {
  kind: "rendered",
  by: "k0s",
  mark: "# k0s_managed=true",
  dropIns: ["/etc/k0s/containerd.d"],
  templates: [],
  base: "",
};
const root = "/etc/k0s/containerd.toml";
const managed = '# k0s_managed=true\nversion = 3\nimports = ["/etc/k0s/containerd.d/*.toml"]\n';
const dropIn = "/etc/k0s/containerd.d/50-shimctl-default.toml";

const nodeWith = (text: string, more: Record<string, string> = {}) =>
  new MemoryNode("2.3.4", { [root]: text, ...more }, root, undefined, source);

function refusal(node: MemoryNode): ShimctlError {
  try {
    node.view().plan("default", [handler("kata-qemu")]);
  } catch (error) {
    if (error instanceof ShimctlError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

describe("a root file that bears the mark of who writes it", () => {
  test("is left as it is: handlers go to the folder that it imports, and leave it again", () => {
    const node = nodeWith(managed);
    expect(node.install("default", ["kata-qemu"]).map(({ path }) => path)).toEqual([dropIn]);
    expect(node.text(root)).toBe(managed);
    expect(node.text(dropIn)).toStartWith("version = 3");
    node.uninstall("default");
    expect(node.tree()).toEqual({ [root]: managed });
  });

  test("is the administrator's without it: refused, and what is ours can still be removed", () => {
    const node = nodeWith(managed);
    node.install("default", ["runsc"]);
    const own = managed.replace("# k0s_managed=true\n", "");
    node.write(root, own);
    const { code, message, facts } = refusal(node);
    expect([code, message]).toEqual([
      "unsupported-node",
      "Cannot install here, as k0s does not manage this file: its first line is not '# k0s_managed=true'",
    ]);
    expect([facts.path, facts.hint]).toEqual([
      root,
      "move this file away and restart k0s, which then writes and manages its own; or add the handlers to it by hand",
    ]);
    node.uninstall("default");
    expect(node.tree()).toEqual({ [root]: own });
  });

  test("that imports none of the folders is refused, naming them", () => {
    const { code, facts } = refusal(nodeWith("# k0s_managed=true\nversion = 3\n"));
    expect([code, facts.hint]).toEqual([
      "unsupported-config",
      "restart k0s, or look for these folders: /etc/k0s/containerd.d",
    ]);
  });
});

test("a folder whose pattern our name does not match is not one that the root file imports", () => {
  for (const imports of [
    "/etc/k0s/containerd.d/kata-*.toml",
    "/etc/k0s/containerd.d/50-shimctl-default.toml",
  ]) {
    const node = nodeWith(managed.replace("/etc/k0s/containerd.d/*.toml", imports), { [dropIn]: "" });
    expect(refusal(node).code).toBe("unsupported-config");
  }
});

describe("k3s whose containerd nobody can ask", () => {
  const { rootFile, source: k3s } = k3sServer.places(new MemoryNode(undefined, {}).host, undefined);
  const nodeOf = (text: string) => new MemoryNode(undefined, { [rootFile]: text }, rootFile, undefined, k3s);

  test("is one of 2.x where the rendered file has version 3", () => {
    const [edit] = nodeOf("version = 3\n").install("default", ["kata-qemu"]);
    expect(edit?.path).toEndWith("/config-v3.toml.tmpl");
  });

  test("must be named where the rendered file has version 2: both render it", () => {
    const { code, facts } = refusal(nodeOf("version = 2\n"));
    expect([code, facts.path]).toEqual(["unsupported-config", rootFile]);
    expect(facts.hint).toContain("--engine-version");
  });

  test("is not added to where no template renders that version", () => {
    expect(refusal(nodeOf("version = 4\n")).message).toBe(
      "Cannot add to a configuration of version 4, as no template of k3s for it is known",
    );
  });
});

test("an echo of our block in the rendered file is no holding, even where its template has lost it", () => {
  const { rootFile, source: k3s } = k3sServer.places(new MemoryNode(undefined, {}).host, undefined);
  const node = new MemoryNode("2.1.9", { [rootFile]: "# é\nversion = 3\n" }, rootFile, undefined, k3s);
  const [made] = node.install("default", ["kata-qemu"]);
  const block = node.text(made?.path)?.split("\n").slice(1).join("\n") ?? "";
  node.write(rootFile, `# é\nversion = 3\n${block}`);
  expect(node.view().state.holdings.map(({ path }) => path)).toEqual([made?.path ?? ""]);
  node.files.delete(made?.path ?? "");
  const { holdings, handlers } = node.view().state;
  expect([holdings, handlers.map(({ name }) => name)]).toEqual([[], ["runc"]]);
});
