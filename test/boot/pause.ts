import { createHash } from "node:crypto";
import type { BootedNode } from "./boot.ts";

/**
 * Gives a booted node the image that its engine starts sandboxes from, under the name that the engine's own
 * configuration says. It is made here: no registry is asked. For x86-64.
 */
export async function placePause(node: BootedNode): Promise<void> {
  const crio = node.unit.startsWith("crio");
  const said = must(node, crio ? ["crio", "config"] : ["containerd", "config", "dump"]);
  // CRI-O has its defaults as comments.
  const name = /^[\s#]*(?:sandbox|sandbox_image|pause_image) = ["'](.+)["']$/m.exec(said)?.[1];
  if (name === undefined) throw new Error(`${node.unit}: no image for sandboxes in its configuration`);
  const archive = "/run/pause.tar";
  node.placeBytes(archive, pauseImage(name));
  if (crio) {
    must(node, [
      "skopeo",
      "--insecure-policy",
      "copy",
      `docker-archive:${archive}`,
      `containers-storage:${name}`,
    ]);
    return;
  }
  must(node, ["ctr", "-n", "k8s.io", "images", "import", archive]);
  // CRI learns of images by events, and labels those that it knows.
  for (let tries = 0; tries < 100; tries++) {
    if (must(node, ["ctr", "-n", "k8s.io", "images", "ls", `name==${name}`]).includes("=managed")) return;
    await Bun.sleep(50);
  }
  throw new Error(`${node.unit}: CRI took no notice of ${name}`);
}

function must(node: BootedNode, argv: readonly string[]): string {
  const { code, out, err } = node.run(argv);
  if (code !== 0) throw new Error(`${argv.slice(0, 2).join(" ")} ended with ${code}: ${err.trim()}`);
  return out;
}

/** An archive as `docker save` writes it: one layer with one file, `/pause`. */
export function pauseImage(name: string): Buffer {
  const layer = tar([["pause", pauseProgram(), 0o755]]);
  const config = {
    architecture: "amd64",
    os: "linux",
    config: { Entrypoint: ["/pause"] },
    rootfs: { type: "layers", diff_ids: [`sha256:${createHash("sha256").update(layer).digest("hex")}`] },
  };
  const manifest = [{ Config: "config.json", RepoTags: [name], Layers: ["layer.tar"] }];
  return tar([
    ["config.json", Buffer.from(JSON.stringify(config)), 0o644],
    ["layer.tar", layer, 0o644],
    ["manifest.json", Buffer.from(JSON.stringify(manifest)), 0o644],
  ]);
}

/** An archive in POSIX's ustar format (pax(1)). */
function tar(files: readonly (readonly [name: string, bytes: Buffer, mode: number])[]): Buffer {
  const blocks = files.flatMap(([name, bytes, mode]) => {
    const header = Buffer.alloc(512);
    const octal = (value: number, at: number, length: number): void => {
      header.write(value.toString(8).padStart(length - 1, "0"), at);
    };
    header.write(name, 0);
    octal(mode, 100, 8);
    octal(0, 108, 8);
    octal(0, 116, 8);
    octal(bytes.length, 124, 12);
    octal(0, 136, 12);
    header.write("0", 156);
    header.write("ustar\u000000", 257);
    // The checksum is that of a header whose checksum is spaces.
    header.fill(" ", 148, 156);
    octal(
      header.reduce((sum, byte) => sum + byte, 0),
      148,
      7,
    );
    return [header, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

/**
 * Waits for SIGTERM or SIGINT and ends with 0. A first process is not even told of a signal that it neither
 * handles nor blocks (pid_namespaces(7)), and a sandbox would end by a time-out of its engine.
 */
const instructions = [
  "6802400000", //     push 0x4002                       the set: SIGINT, SIGTERM
  "4889e6", //         mov  rsi, rsp
  "31ff", //           xor  edi, edi                     SIG_BLOCK
  "31d2", //           xor  edx, edx
  "41ba08000000", //   mov  r10d, 8                      the set's size
  "b80e000000", //     mov  eax, 14                      rt_sigprocmask(SIG_BLOCK, set, NULL, 8)
  "0f05", //           syscall
  "4889e7", //   wait: mov  rdi, rsp
  "31f6", //           xor  esi, esi
  "31d2", //           xor  edx, edx
  "b880000000", //     mov  eax, 128                     rt_sigtimedwait(set, NULL, NULL, 8)
  "0f05", //           syscall
  "85c0", //           test eax, eax
  "78ee", //           js   wait                         it was stopped and continued
  "31ff", //           xor  edi, edi
  "b83c000000", //     mov  eax, 60                      exit(0)
  "0f05", //           syscall
];

/** The smallest executable that there is of that: an ELF header, a segment and the instructions (elf(5)). */
function pauseProgram(): Buffer {
  const code = Buffer.from(instructions.join(""), "hex");
  const [header, segment, address] = [64, 56, 0x400000n];
  const elf = Buffer.alloc(header + segment + code.length);
  const size = BigInt(elf.length);
  elf.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  elf.writeUInt16LE(2, 16); // ET_EXEC
  elf.writeUInt16LE(62, 18); // EM_X86_64
  elf.writeUInt32LE(1, 20);
  elf.writeBigUInt64LE(address + BigInt(header + segment), 24); // e_entry
  elf.writeBigUInt64LE(BigInt(header), 32); // e_phoff
  elf.writeUInt16LE(header, 52);
  elf.writeUInt16LE(segment, 54);
  elf.writeUInt16LE(1, 56); // e_phnum
  elf.writeUInt32LE(1, 64); // PT_LOAD
  elf.writeUInt32LE(5, 68); // PF_R | PF_X
  elf.writeBigUInt64LE(address, 80);
  elf.writeBigUInt64LE(address, 88);
  elf.writeBigUInt64LE(size, 96);
  elf.writeBigUInt64LE(size, 104);
  elf.writeBigUInt64LE(0x1000n, 112);
  code.copy(elf, header + segment);
  return elf;
}
