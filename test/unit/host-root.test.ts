import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { ShimctlError } from "../../src/error.ts";
import { type Host, openHost } from "../../src/host/root.ts";

let root = "";
let host: Host;
beforeAll(() => {
  root = mkdtempSync(`${tmpdir()}/shimctl-root-`);
  mkdirSync(`${root}/etc/containerd`, { recursive: true });
  mkdirSync(`${root}/data`);
  writeFileSync(`${root}/data/config.toml`, "version = 2\n", { mode: 0o640 });
  chmodSync(`${root}/data/config.toml`, 0o640);
  symlinkSync("/data/config.toml", `${root}/etc/containerd/config.toml`);
  symlinkSync("../../../../../../etc/passwd", `${root}/etc/out`);
  symlinkSync("/nowhere/file", `${root}/etc/dangling`);
  symlinkSync("loop", `${root}/etc/loop`);
  symlinkSync("/data", `${root}/link`);
  execFileSync("mkfifo", [`${root}/etc/pipe`]);
  host = openHost(`${root}/`);
});
afterAll(() => rmSync(root, { recursive: true }));

describe("the node's files behind a root", () => {
  test("an absolute link leads to a file inside the root", () => {
    const read = host.read("/etc/containerd/config.toml");
    expect(read).toMatchObject({ kind: "file", resolved: "/data/config.toml", mode: 0o640, nlink: 1 });
    expect(read.kind === "file" && new TextDecoder().decode(read.bytes)).toBe("version = 2\n");
  });

  test("a link with too many '..' stops at the root", () => {
    expect(host.resolve("/etc/out")).toBe("/etc/passwd");
    expect(host.real("/etc/out")).toBe(`${root}/etc/passwd`);
  });

  test("a link that leads nowhere is absent and dangling", () => {
    expect(host.read("/etc/dangling")).toEqual({
      kind: "absent",
      path: "/etc/dangling",
      resolved: "/nowhere/file",
      dangling: true,
    });
  });

  test("a file missing in a linked folder is absent, and not dangling", () => {
    expect(host.read("/link/none")).toEqual({
      kind: "absent",
      path: "/link/none",
      resolved: "/data/none",
      dangling: false,
    });
  });

  test("links that go in a circle are unreadable", () => {
    expect(host.read("/etc/loop")).toMatchObject({ kind: "unreadable" });
    expect(() => host.real("/etc/loop")).toThrow(ShimctlError);
  });

  test("a path through a file is unreadable, not absent", () => {
    expect(host.read("/data/config.toml/x")).toMatchObject({ kind: "unreadable" });
  });

  test("a pipe is not opened", () => {
    expect(host.read("/etc/pipe")).toEqual({ kind: "other", path: "/etc/pipe", what: "special" });
  });

  test("a folder is not a file", () => {
    expect(host.read("/etc")).toEqual({ kind: "other", path: "/etc", what: "directory" });
  });

  test("names are listed in byte order", () => {
    for (const name of ["b", "B", "a", "é", "10", "9"]) writeFileSync(`${root}/data/${name}`, "");
    expect(host.list("/link")).toEqual(["10", "9", "B", "a", "b", "config.toml", "é"]);
  });

  test("there is no list of what is no folder", () => {
    expect([host.list("/none"), host.list("/data/config.toml")]).toEqual([undefined, undefined]);
  });

  test("a file is executable by its mode", () => {
    writeFileSync(`${root}/data/run`, "");
    expect(host.isExecutable("/data/run")).toBe(false);
    chmodSync(`${root}/data/run`, 0o755);
    expect(host.isExecutable("/link/run")).toBe(true);
    expect(host.isExecutable("/data")).toBe(false);
  });

  test("a dangling link does not exist", () => {
    expect([host.exists("/etc/dangling"), host.exists("/etc/containerd/config.toml")]).toEqual([false, true]);
  });
});
