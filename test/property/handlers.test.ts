import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Backend } from "../../src/engine/backend.ts";
import { containerd } from "../../src/engine/containerd/backend.ts";
import { crio } from "../../src/engine/crio/backend.ts";
import { Handler } from "../../src/handler/model.ts";
import { anyHandler, withDifferentNames } from "../support/any_handler.ts";
import { MemoryNode } from "../support/memory.ts";

const runs = 400;

/** What an engine's file holds of a handler: nothing of other engines, and nothing that decides before it is written. */
const written: Readonly<Record<string, (handler: Handler) => Handler>> = {
  containerd({ preset: _, requires: __, crio: ___, containerd: part, ...own }) {
    return part === undefined ? own : { ...own, containerd: { ...part, like_runc: false } };
  },
  crio({ name, privileged_without_host_devices, crio: part }) {
    return {
      name,
      ...(privileged_without_host_devices === undefined ? {} : { privileged_without_host_devices }),
      ...(part === undefined ? {} : { crio: { ...part, like_default: false } }),
    };
  },
};

const engines: readonly (readonly [version: string, backend: Backend, rootFile: string])[] = [
  ["1.7.24", containerd, "/etc/containerd/config.toml"],
  ["2.1.9", containerd, "/etc/containerd/config.toml"],
  ["2.3.4", containerd, "/etc/containerd/config.toml"],
  ["1.36.3", crio, "/etc/crio/crio.conf"],
];

const byName = (handlers: readonly Handler[]) =>
  Object.fromEntries(handlers.map((handler) => [handler.name, handler]));

describe("any handler", () => {
  test("is one to the model", () => {
    fc.assert(
      fc.property(anyHandler, (handler) => {
        expect(Handler.parse(handler)).toEqual(handler);
      }),
      { numRuns: runs },
    );
  });

  for (const [version, backend, rootFile] of engines) {
    test(`is read back from the files of ${backend.name} ${version} as it was written, and then left alone`, () => {
      fc.assert(
        fc.property(withDifferentNames(anyHandler, 4), (handlers) => {
          const node = new MemoryNode(version, {}, rootFile, backend);
          node.make(node.view().plan("a", handlers));
          const back = node.view().handlersOf("a");
          const write = written[backend.name] ?? ((handler) => handler);
          expect(byName(back)).toEqual(byName(handlers.map(write)));
          expect(node.view().plan("a", back)).toEqual([]);
          node.make(node.view().plan("a", []));
          expect(node.tree()).toEqual({});
        }),
        { numRuns: runs },
      );
    });
  }
});
