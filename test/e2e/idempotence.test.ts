import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { compiled } from "../support/binary.ts";
import { engineCases } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";

const strace = existsSync("/usr/bin/strace");
if (!strace) console.log("(skip) what the second of two runs writes: strace is not installed");

/** Whatever changes a file system. Files that are opened are looked at by their flags. */
const calls =
  "openat,open,creat,mkdir,mkdirat,rmdir,unlink,unlinkat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,truncate,ftruncate,fchmod,fchmodat,chmod,fchown,chown,fchownat,lchown,utimensat,fsetxattr,setxattr,mknod,mknodat";
const locks = ["/run/shimctl/lock", "/run/lock/kata-deploy.lock"];

/** The system calls of a run by which it could change anything, but for its lock files. */
function writes(node: Node, args: readonly string[]): string[] {
  const trace = `${node.root}/trace`;
  const argv = ["-f", "-qq", "-s", "200", "-o", trace, "-e", `trace=${calls}`, compiled(), ...args];
  const { status } = spawnSync("strace", [...argv, ...node.options], { stdio: "ignore" });
  expect(status).toBe(0);
  const lines = readFileSync(trace, "utf8").split("\n");
  rmSync(trace);
  return lines
    .map((line) => line.replace(/^\d+ +/, ""))
    .filter((line) => /^\w+\(/.test(line))
    .filter((line) => !/^(openat|open)\(/.test(line) || /O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND/.test(line))
    .filter((line) => !/^mkdir\(.* = -1 EEXIST /.test(line))
    .filter((line) => !locks.some((lock) => line.includes(`"${node.root}${lock}"`)));
}

describe.skipIf(!strace).each(engineCases)("the second of two runs on $name writes nothing", (engineCase) => {
  const [kata, second] = engineCase.handlers;

  test("and the first does, so this way of looking finds it", () => {
    using node = Node.of(engineCase);
    const made = writes(node, ["install", kata]);
    expect(made.filter((line) => line.startsWith("renameat2("))).not.toEqual([]);
    expect(made.join("\n")).toContain(`${node.root}/var/lib/shimctl/journal`);
  });

  const twice: Readonly<Record<string, readonly string[]>> = {
    "when it installs the same": ["install", kata],
    "when it installs a part of it": ["install", second],
    "when it applies the same": ["apply", "-f"],
    "when it uninstalls what is not there": ["uninstall", "kata-qemu-snp"],
  };
  for (const [what, args] of Object.entries(twice)) {
    test(what, async () => {
      using node = Node.of(engineCase);
      node.place("/handlers.toml", `format = 1\n[handlers.${kata}]\n[handlers.${second}]\n`);
      expect((await node.run(["install", kata, second])).code).toBe(0);
      const before = node.tree();
      const whole = args.includes("-f") ? [...args, `${node.root}/handlers.toml`] : args;
      expect(writes(node, whole)).toEqual([]);
      expect(node.tree()).toEqual(before);
    });
  }

  test("when its epoch is recorded already, or an older one comes late", async () => {
    using node = Node.of(engineCase);
    const order = ["--epoch", "2", "--instance", "a"];
    await node.run(["install", kata, ...order]);
    expect(writes(node, ["install", kata, ...order])).toEqual([]);
    expect(writes(node, ["uninstall", "--all", "--epoch", "1"])).toEqual([]);
    await node.run(["uninstall", "--all", ...order]);
    expect(writes(node, ["uninstall", "--all", ...order])).toEqual([]);
    expect(writes(node, ["install", kata, ...order])).toEqual([]);
  });

  test("when everything is uninstalled already", async () => {
    using node = Node.of(engineCase);
    await node.run(["install", kata]);
    await node.run(["uninstall", "--all"]);
    expect(writes(node, ["uninstall", "--all"])).toEqual([]);
  });
});
