import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { RuntimeService } from "../../src/host/cri/runtime_pb.ts";
import type { BootedNode } from "./boot.ts";

/** x86-64: `mov eax, 34; syscall; jmp` back: pause(2) for ever. */
const pause = Buffer.from("b8220000000f05ebf7", "hex");

/** The smallest program that waits: an ELF header, one segment, three instructions. */
function pauseProgram(): Buffer {
  const base = 0x400000n;
  const size = 64 + 56;
  const elf = Buffer.alloc(size + pause.length);
  elf.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  elf.writeUInt16LE(2, 16);
  elf.writeUInt16LE(62, 18);
  elf.writeUInt32LE(1, 20);
  elf.writeBigUInt64LE(base + BigInt(size), 24);
  elf.writeBigUInt64LE(64n, 32);
  elf.writeUInt16LE(64, 52);
  elf.writeUInt16LE(56, 54);
  elf.writeUInt16LE(1, 56);
  elf.writeUInt32LE(1, 64);
  elf.writeUInt32LE(5, 68);
  elf.writeBigUInt64LE(base, 80);
  elf.writeBigUInt64LE(base, 88);
  elf.writeBigUInt64LE(BigInt(elf.length), 96);
  elf.writeBigUInt64LE(BigInt(elf.length), 104);
  elf.writeBigUInt64LE(0x1000n, 112);
  elf.set(pause, size);
  return elf;
}

/** A pause image as an archive that containerd imports, under a name. No registry is asked. */
function pauseArchive(name: string): Buffer {
  const folder = mkdtempSync(`${tmpdir()}/shimctl-pause-`);
  try {
    const tar = (from: string, ...names: string[]) =>
      spawnSync("tar", ["-cf", "-", "-C", from, "--owner=0", "--group=0", ...names]).stdout;
    mkdirSync(`${folder}/root`);
    writeFileSync(`${folder}/root/pause`, pauseProgram(), { mode: 0o755 });
    const layer = tar(`${folder}/root`, "pause");
    const hash = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
    const config = Buffer.from(
      JSON.stringify({
        architecture: "amd64",
        os: "linux",
        config: { Entrypoint: ["/pause"] },
        rootfs: { type: "layers", diff_ids: [`sha256:${hash(layer)}`] },
      }),
    );
    mkdirSync(`${folder}/image`);
    writeFileSync(`${folder}/image/layer.tar`, layer);
    writeFileSync(`${folder}/image/${hash(config)}.json`, config);
    const manifest = [{ Config: `${hash(config)}.json`, RepoTags: [name], Layers: ["layer.tar"] }];
    writeFileSync(`${folder}/image/manifest.json`, JSON.stringify(manifest));
    return tar(`${folder}/image`, "manifest.json", "layer.tar", `${hash(config)}.json`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/**
 * Makes pods possible on a booted node: the image that sandboxes are started from, under the name that containerd
 * looks for; and, as this may run without CAP_SYS_RESOURCE, sandboxes that are killed no later than others.
 */
export function allowPods(node: BootedNode): void {
  const isOld = node.run(["containerd", "--version"]).out.includes(" 1.");
  const [version, id] = isOld ? [2, "io.containerd.grpc.v1.cri"] : [3, "io.containerd.cri.v1.runtime"];
  node.place(
    "/etc/containerd/config.toml",
    `version = ${version}\n\n[plugins."${id}"]\n  restrict_oom_score_adj = true\n`,
  );
  withoutControlGroups(node);
  node.run(["systemctl", "restart", "containerd"]);

  const dump = node.run(["containerd", "config", "default"]).out;
  const name = /^\s*sandbox(?:_image)? = ["'](.*)["']$/m.exec(dump)?.[1];
  if (name === undefined) throw new Error("containerd names no image for its sandboxes");
  node.placeBytes("/var/tmp/pause.tar", pauseArchive(name));
  const ran = node.run(["ctr", "-n", "k8s.io", "images", "import", "/var/tmp/pause.tar"]);
  if (ran.code !== 0) throw new Error(`cannot import the pause image: ${ran.err}`);
}

/** Where this machine has handed its controllers to version 1, none is left for a container's version 2. */
export function withoutControlGroups(node: BootedNode): void {
  node.run(["mv", "/usr/bin/crun", "/usr/lib/crun"]);
  node.place("/usr/bin/crun", '#!/bin/sh\nexec /usr/lib/crun --cgroup-manager=disabled "$@"\n', "755");
}

/** Runs a pod's sandbox, and leaves it running. Returns what ends it. */
export async function runPod(
  node: BootedNode,
  handler: string,
  socket = "/run/containerd/containerd.sock",
): Promise<{ id: string; end: () => Promise<void> }> {
  // A connection for each call: an engine that was restarted in between has ended the one from before.
  const client = () =>
    createClient(
      RuntimeService,
      createGrpcTransport({
        baseUrl: "http://localhost",
        nodeOptions: { createConnection: () => connect(`${node.outside}${socket}`) },
        interceptors: [
          (next) => (request) => {
            request.header.set("content-type", "application/grpc");
            return next(request);
          },
        ],
      }),
    );
  const { podSandboxId } = await client().runPodSandbox({
    runtimeHandler: handler,
    config: {
      metadata: { name: `web-${handler}`, uid: crypto.randomUUID(), namespace: "default", attempt: 0 },
      linux: { securityContext: { namespaceOptions: { network: 2 } } },
    },
  });
  return {
    id: podSandboxId,
    end: async () => {
      await client().stopPodSandbox({ podSandboxId });
      await client().removePodSandbox({ podSandboxId });
    },
  };
}
