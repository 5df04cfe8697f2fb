import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, chownSync, mkdirSync, symlinkSync } from "node:fs";
import process from "node:process";
import { engineCases, markedCase } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";

const isRoot = process.geteuid?.() === 0;
if (!isRoot) console.log("skipped: trust: only root trusts nobody else");

let node: Node;
beforeEach(() => {
  node = Node.of(markedCase);
});
afterEach(() => node[Symbol.dispose]());

const path = markedCase.rootFile;

describe.skipIf(!isRoot)(
  "as root, a configuration that another user may change is refused before anything is written",
  () => {
    const shares: Readonly<Record<string, readonly [share: () => void, hint: string]>> = {
      "its folder, by everybody": [
        () => chmodSync(`${node.root}/etc/containerd`, 0o757),
        "chmod o-w /etc/containerd",
      ],
      "its folder, by everybody, with the sticky bit": [
        () => chmodSync(`${node.root}/etc/containerd`, 0o1777),
        "chmod o-w /etc/containerd",
      ],
      "its folder, by a group": [
        () => {
          chownSync(`${node.root}/etc/containerd`, 0, 4711);
          chmodSync(`${node.root}/etc/containerd`, 0o775);
        },
        "chmod g-w /etc/containerd",
      ],
      "its folder, by its owner": [
        () => chownSync(`${node.root}/etc/containerd`, 4711, 0),
        "chown root /etc/containerd",
      ],
      "the folder above, by everybody": [() => chmodSync(`${node.root}/etc`, 0o777), "chmod o-w /etc"],
      "the folder above, by its owner": [() => chownSync(`${node.root}/etc`, 4711, 4711), "chown root /etc"],
      "the file, by everybody": [() => chmodSync(node.root + path, 0o666), `chmod o-w ${path}`],
      "the file, by its owner": [() => chownSync(node.root + path, 4711, 0), `chown root ${path}`],
      "the folder behind its link": [
        () => {
          mkdirSync(`${node.root}/srv/shared`, { recursive: true, mode: 0o755 });
          node.place("/srv/shared/x.toml", node.text());
          chmodSync(`${node.root}/srv/shared`, 0o777);
          node.remove(path);
          symlinkSync("/srv/shared/x.toml", node.root + path);
        },
        "chmod o-w /srv/shared",
      ],
      "the folder of a link on the way": [
        () => {
          node.place("/srv/x.toml", node.text());
          mkdirSync(`${node.root}/home/user`, { recursive: true });
          chownSync(`${node.root}/home/user`, 4711, 4711);
          symlinkSync("/srv/x.toml", `${node.root}/home/user/link`);
          node.remove(path);
          symlinkSync("/home/user/link", node.root + path);
        },
        "chown root /home/user",
      ],
      "the folder of shimctl's own state": [
        () => {
          mkdirSync(`${node.root}/var/lib`, { recursive: true });
          chmodSync(`${node.root}/var/lib`, 0o777);
        },
        "chmod o-w /var/lib",
      ],
    };
    for (const [what, [share, hint]] of Object.entries(shares)) {
      test(what, async () => {
        share();
        const before = node.tree();
        for (const args of [
          ["install", "kata-qemu"],
          ["install", "kata-qemu", "--dry-run"],
        ]) {
          const { code, err } = await node.run(args);
          expect([code, err]).toEqual([6, expect.stringContaining("Cannot trust")]);
          expect(err).toContain(`run ${hint}, then`);
          expect(err).toContain("nothing was written");
        }
        expect(node.tree()).toEqual(before);
        // To look at it does no harm.
        expect((await node.run(["status"])).code).toBe(0);
      });
    }

    test("not so a folder above with the sticky bit, root's own group, or a file that others read", async () => {
      chmodSync(`${node.root}/etc`, 0o1777);
      chmodSync(`${node.root}/etc/containerd`, 0o775);
      chmodSync(node.root + path, 0o644);
      expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
    });
  },
);

describe("a symbolic link in the node's files", () => {
  for (const engineCase of engineCases) {
    test(`${engineCase.name}: to anywhere above the root stays inside it`, async () => {
      using outer = new Node(engineCase.version);
      outer.place("/outside/victim", "untouched");
      using inner = Node.of(engineCase);
      const folder = engineCase.block("default").replace(/\/[^/]*$/, "");
      if (engineCase !== markedCase) {
        inner.remove(folder);
        symlinkSync(`../../../../../../../..${outer.root}/outside`, inner.root + folder);
      } else symlinkSync(`${outer.root}/outside`, `${inner.root}/etc/containerd/conf.d`);
      await inner.run(["install", engineCase.handlers[0]]);
      expect(outer.tree()["/outside/victim"]).toBeDefined();
      expect(Object.keys(outer.tree()).filter((name) => name.startsWith("/outside"))).toEqual([
        "/outside",
        "/outside/victim",
      ]);
      expect(outer.text("/outside/victim")).toBe("untouched");
    });
  }
});
