import { describe, expect, test } from "bun:test";
import { mkdirSync, renameSync, symlinkSync } from "node:fs";
import { createServer } from "node:net";
import { bringCrio } from "../../build/crio.ts";
import { crioCase } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";
import { crioConfig, handlersOf } from "./crio-harness.ts";
import { jailProblem } from "./harness.ts";

const folder = "/etc/crio/crio.conf.d";
const path = `${folder}/20-theirs`;
const table = '[crio.runtime.runtimes.x]\nruntime_path = "/usr/bin/crun"\n';

interface Invalid {
  /** A file of this content, or what else is done to the node. */
  readonly put: string | Uint8Array | ((node: Node) => unknown);
  readonly reason: RegExp;
  /** The file that is named; the one that was put by default. */
  readonly named?: string;
}

const notToml = /Cannot read the file as TOML 1\.0/;
const wrongType = /CRI-O does not start with this file, as '\w+' of handler 'x' has a wrong type/;
const wrongKey = /CRI-O does not start with this file, as '[\w.]+' has a wrong type/;

/** What CRI-O does not start on, and what is said instead of installing beside it. */
const invalid: Readonly<Record<string, Invalid>> = {
  "a table that is defined twice": { put: table + table, reason: notToml },
  "a key that is defined twice": { put: `${table}runtime_path = "/x"\n`, reason: notToml },
  "a header that is cut off": { put: "[crio.runtime\n", reason: notToml },
  "a string that is cut off": { put: '[crio.runtime]\nlog_level = "in', reason: notToml },
  "lines that end in a carriage return alone": {
    put: table.replaceAll("\n", "\r"),
    reason: notToml,
  },
  "a NUL byte": { put: `${table}# \0\n`, reason: notToml },
  "bytes that are not UTF-8": {
    put: Buffer.concat([
      Buffer.from(`${table}monitor_path = "`),
      Buffer.from([0xff, 0xfe]),
      Buffer.from('"\n'),
    ]),
    reason: /UTF-8/,
  },
  "a path that is a number": {
    put: "[crio.runtime.runtimes.x]\nruntime_path = 1\n",
    reason: wrongType,
  },
  "a list that is a string": {
    put: `${table}allowed_annotations = "bundle"\n`,
    reason: wrongType,
  },
  "a switch that is a string": {
    put: `${table}privileged_without_host_devices = "true"\n`,
    reason: wrongType,
  },
  "a handler that is no table": {
    put: "[crio.runtime.runtimes]\nx = 1\n",
    reason: /wrong type/,
  },
  "an annotation that is a number": {
    put: `${table}default_annotations = { a = 1 }\n`,
    reason: wrongType,
  },
  "a crio that is no table": { put: "crio = 1\n", reason: wrongKey },
  "a crio.runtime that is no table": { put: "[crio]\nruntime = 1\n", reason: wrongKey },
  "a default runtime that is a number": { put: "[crio.runtime]\ndefault_runtime = 1\n", reason: wrongKey },
  "a default runtime that no file defines": {
    put: '[crio.runtime]\ndefault_runtime = "absent"\n',
    reason: /default runtime 'absent' is not defined/,
  },
  "a file in a folder of the folder": {
    put: (node) => node.place(`${folder}/deeper/x`, "[crio.runtime\n"),
    reason: notToml,
    named: `${folder}/deeper/x`,
  },
  "a hidden file": {
    put: (node) => node.place(`${folder}/.20-theirs.swp`, "b0VIM 9.1\n"),
    reason: notToml,
    named: `${folder}/.20-theirs.swp`,
  },
  "a broken crio.conf": {
    put: (node) => node.place("/etc/crio/crio.conf", "[crio.runtime\n"),
    reason: notToml,
    named: "/etc/crio/crio.conf",
  },
  "a link that leads nowhere": {
    put: (node) => symlinkSync("/etc/absent", node.root + path),
    reason: /a symbolic link that leads nowhere/,
  },
  "a link to itself": {
    put: (node) => symlinkSync("20-theirs", node.root + path),
    reason: /its symbolic links do not end/,
  },
  "a link to a folder": {
    put: (node) => {
      mkdirSync(`${node.root}/etc/elsewhere`);
      symlinkSync("/etc/elsewhere", node.root + path);
    },
    reason: /a symbolic link to a folder/,
  },
  "a socket": {
    put: (node) => listen(node.root + path),
    reason: /it is not a regular file/,
  },
  "the folder itself behind a link": {
    put: (node) => {
      renameSync(node.root + folder, `${node.root}/etc/elsewhere`);
      symlinkSync("/etc/elsewhere", node.root + folder);
    },
    reason: /the folder is a symbolic link/,
    named: folder,
  },
  "a broken file in the folder's place": {
    put: (node) => {
      renameSync(node.root + folder, `${node.root}/etc/elsewhere`);
      node.place(folder, "[crio.runtime\n");
    },
    reason: notToml,
    named: folder,
  },
};

/** What looks wrong, and CRI-O starts all the same: so nothing is refused. */
const passedOver: Readonly<Record<string, string>> = {
  "handlers that are no table": "[crio.runtime]\nruntimes = 1\n",
  "a list of handlers": '[[crio.runtime.runtimes]]\nname = "x"\n',
  "annotations that are no table": `${table}default_annotations = 1\n`,
  "keys that nobody knows": `${table}unknown = 1\n[crio.unknown]\nx = 1\n[unknown]\n`,
  "a byte order mark": `\ufeff${table}`,
  "lines that end as on Windows": table.replaceAll("\n", "\r\n"),
  "an empty file": "",
};

/** A socket stays where it is once nobody listens to it. */
async function listen(at: string): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(`${at}.tmp`, resolve));
  renameSync(`${at}.tmp`, at);
  server.close();
}

const problem = jailProblem();
const ready = problem === undefined ? (await bringCrio()).engines : [];
if (problem !== undefined) console.log(`(skip) what CRI-O does not start on: ${problem}`);

describe.skipIf(problem !== undefined)(
  "what the real CRI-O does not start on is refused, and nothing is written",
  () => {
    for (const engine of ready) {
      for (const [what, { put, reason, named = path }] of Object.entries(invalid)) {
        test(`${engine.version}: ${what}`, async () => {
          using node = Node.of({ ...crioCase, version: engine.version });
          expect(crioConfig(engine, node.root).rc).toBe(0);
          if (typeof put === "function") await put(node);
          else node.place(path, put);
          expect(crioConfig(engine, node.root).rc).not.toBe(0);
          const before = node.tree();

          const ran = await node.run(["install", "kata-qemu", "--json"]);
          const error = ran.json()["error"] as { message: string; path: string };
          expect([ran.code, error.message]).toEqual([3, expect.stringMatching(reason)]);
          expect(error.path).toBe(named);
          for (const command of ["status", "check"]) expect((await node.run([command])).code).toBe(11);
          expect(node.tree()).toEqual(before);
        });
      }
    }
  },
);

describe.skipIf(problem !== undefined)("what the real CRI-O passes over is no reason to refuse", () => {
  for (const engine of ready) {
    for (const [what, text] of Object.entries(passedOver)) {
      test(`${engine.version}: ${what}`, async () => {
        using node = Node.of({ ...crioCase, version: engine.version });
        node.place(path, text);
        const before = node.tree();
        expect(crioConfig(engine, node.root).rc).toBe(0);
        expect((await node.run(["check"])).code).toBe(0);
        expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
        const { rc, stdout } = crioConfig(engine, node.root);
        expect([rc, Object.keys(handlersOf(stdout))]).toEqual([0, expect.arrayContaining(["kata-qemu"])]);
        expect((await node.run(["uninstall", "--all"])).code).toBe(0);
        expect(node.tree()).toEqual(before);
      });
    }
  }
});
