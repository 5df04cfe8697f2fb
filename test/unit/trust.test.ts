import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, chownSync, mkdirSync, symlinkSync } from "node:fs";
import process from "node:process";
import { openHost } from "../../src/host/root.ts";
import { refuseShared } from "../../src/host/trust.ts";
import { engineCases, markedCase } from "../support/engine_case.ts";
import { microk8sNode } from "../support/microk8s_sed.ts";
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

describe.skipIf(!isRoot)("MicroK8s lets its group write to its template", () => {
  const gid = 4712;
  const args = "/var/snap/microk8s/7394/args";
  const template = `${args}/containerd-template.toml`;

  function shared(group = `microk8s:x:${gid}:\n`): Node {
    const it = microk8sNode("1.7.24");
    it.place("/etc/group", `root:x:0:\nusers:x:4713:\n${group}`);
    for (const path of [args, template]) chownSync(it.root + path, 0, gid);
    chmodSync(it.root + args, 0o770);
    chmodSync(it.root + template, 0o660);
    return it;
  }

  for (const name of ["microk8s", "snap_microk8s"]) {
    test(`which is said where the group is '${name}', and the file keeps its group and mode`, async () => {
      using it = shared(`${name}:x:${gid}:alice\n`);
      const before = it.tree();
      for (const args of [["--dry-run"], []]) {
        const { code, err } = await it.run(["install", "kata-qemu", ...args]);
        expect([code, err]).toEqual([
          0,
          expect.stringContaining(
            `Members of group '${name}' may write to this folder, as MicroK8s lets them: on this node they are as good as root (/var/snap/microk8s/current/args)`,
          ),
        ]);
      }
      const facts = (tree: Record<string, string>) => tree[template]?.split(" ").slice(0, 2);
      expect(facts(it.tree())).toEqual(facts(before));
      expect((await it.run(["uninstall", "--all"])).code).toBe(0);
      expect(it.tree()).toEqual(before);
    });
  }

  const refused: Readonly<Record<string, readonly [change: (it: Node) => void, hint: string]>> = {
    "another group": [(it) => it.place("/etc/group", "root:x:0:\n"), `chmod g-w ${template}`],
    "every user": [(it) => chmodSync(it.root + template, 0o666), `chmod o-w ${template}`],
    "the folder's owner": [(it) => chownSync(it.root + args, 4711, gid), `chown root ${args}`],
    "the group, but above the folder": [
      (it) => {
        chownSync(`${it.root}/var/snap/microk8s`, 0, gid);
        chmodSync(`${it.root}/var/snap/microk8s`, 0o775);
      },
      "chmod g-w /var/snap/microk8s",
    ],
  };
  for (const [who, [change, hint]] of Object.entries(refused)) {
    test(`not so ${who}`, async () => {
      using it = shared();
      change(it);
      const before = it.tree();
      const { code, err } = await it.run(["install", "kata-qemu"]);
      expect([code, err]).toEqual([6, expect.stringContaining(`run ${hint}, then`)]);
      expect(it.tree()).toEqual(before);
    });
  }

  test("where /etc is not mounted, as the group that the folder was given, and no other", () => {
    using it = shared("");
    const host = {
      ...openHost(it.root),
      unmounted: (path: string) => (path === "/etc/group" ? path : undefined),
    };
    const trusted = { path: "/var/snap/microk8s/current/args", groups: ["microk8s"] };
    expect(refuseShared(host, template, trusted)).toBe(String(gid));
    chownSync(it.root + template, 0, 4713);
    expect(() => refuseShared(host, template, trusted)).toThrow("its group may write to it");
  });

  test("and no other layout does, whatever its group is called", async () => {
    node.place("/etc/group", `microk8s:x:${gid}:\n`);
    chownSync(`${node.root}/etc/containerd`, 0, gid);
    chmodSync(`${node.root}/etc/containerd`, 0o775);
    expect((await node.run(["install", "kata-qemu"])).code).toBe(6);
  });
});

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
