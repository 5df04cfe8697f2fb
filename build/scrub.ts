import {
  entryOf,
  executableFlag,
  growDown,
  machineOf,
  only,
  requirePadding,
  SegmentType,
  sectionsOf,
  segmentsOf,
  setEntry,
} from "./elf.ts";

/**
 * Beginnings of the variables that the runtime obeys before, or without asking, our code: `BUN_BE_BUN` makes the
 * executable a plain Bun, `BUN_OPTIONS` preloads a script, `BUN_INSPECT` waits for a debugger,
 * `BUN_BYTECODE_ORDER_OUT` writes a file, `BUN_JSC_*` and `JavaScriptCoreUseJIT` change the engine,
 * `JSC_SIGNAL_FOR_GC` and `SIMDUTF_FORCE_IMPLEMENTATION` end it, `mimalloc_*` (in any case) is the allocator's,
 * `NODE_CHANNEL_FD` takes over a descriptor. No option turns them off (bundler/executables of Bun's documentation), so
 * they are taken out of the environment before the runtime starts; test/build/hostile.test.ts looks for new ones.
 */
export const scrubbedPrefixes: readonly string[] = [
  "BUN_",
  "GLIBCXX_TUNABLES=",
  "JSC_",
  "JavaScriptCore",
  "Malloc",
  "NODE_CHANNEL_",
  "NODE_COMPILE_CACHE",
  "NODE_OPTIONS=",
  "NODE_PATH=",
  "NODE_V8_COVERAGE=",
  "OPENSSL_",
  "SIMDUTF_",
  "WTF_",
  "WebKit",
  "mimalloc_",
];

/**
 * Puts code before the entry point of a compiled executable that takes those variables out of the environment, in
 * place, and then goes on to where the entry point was. It runs once the loader is done, before anything of the
 * runtime, and touches only what a program's entry point may (System V ABI: all but the stack and rdx; AAPCS64: all
 * but the stack and x0). It stands in the padding before the code segment, which begins that much earlier.
 * Throws where the file is not laid out as expected: exactly one executable segment, with free room before it.
 */
export function scrubEnvironment(file: Buffer): void {
  const code = machineCode[machineOf(file)];
  if (code === undefined) throw new Error(`cannot patch this file: unknown machine ${machineOf(file)}`);
  const table = Buffer.from(`${scrubbedPrefixes.join("\0")}\0\0`, "latin1").map(
    (byte) => byte && byte | caseBit,
  );

  const loads = segmentsOf(file).filter((each) => each.type === SegmentType.load);
  const text = only(
    loads.filter((each) => (each.flags & executableFlag) !== 0),
    "executable segment",
  );
  const section = only(
    sectionsOf(file).filter((each) => each.name === ".text"),
    ".text",
  );
  if (section.address !== text.address)
    throw new Error(
      "cannot patch this file: its code does not begin with .text, so it may be patched already",
    );
  const size = Math.ceil((code.instructions.length + table.length) / 16) * 16;
  const offset = text.offset - size;
  const address = text.address - size;
  requirePadding(file, offset, text.offset, "the code that scrubs the environment");
  // Pages are at most 64 KiB on both machines: none may belong to two segments with different rights.
  const page = (at: number) => Math.floor(at / 0x10000);
  const shares = (each: (typeof loads)[number]) =>
    (each.offset < text.offset && each.offset + each.fileSize > offset) ||
    (each.address < text.address && page(each.address + each.memorySize - 1) >= page(address));
  if (loads.some((each) => each !== text && shares(each)))
    throw new Error("cannot patch this file: the segment before the code reaches into its first page");
  const entry = entryOf(file);
  if (entry < text.address || entry >= text.address + text.fileSize)
    throw new Error("cannot patch this file: the entry point is outside the executable segment");

  code.instructions.copy(file, offset);
  file.set(table, offset + code.instructions.length);
  const jump = code.instructions.length - code.jumpSize;
  code.writeJump(file, offset + jump, entry - (address + jump));
  growDown(file, text, size);
  setEntry(file, address);
}

/** What lower-case letters have more than capital ones; set on both sides before they are compared. */
const caseBit = 0x20;

interface MachineCode {
  /** The table of prefixes follows directly; the last instruction is the jump, still without a distance. */
  readonly instructions: Buffer;
  readonly jumpSize: number;
  /** @param distance from the jump itself, in bytes */
  writeJump(file: Buffer, at: number, distance: number): void;
}

const machineCode: Readonly<Record<number, MachineCode>> = {
  62: {
    instructions: hex(`
      488b0424         entry:  mov  rax, [rsp]            the count of arguments
      488d74c410               lea  rsi, [rsp+rax*8+16]   behind them, the environment: to read
      4889f7                   mov  rdi, rsi              and to write
      488b0e           next:   mov  rcx, [rsi]
      4883c608                 add  rsi, 8
      48890f                   mov  [rdi], rcx
      4885c9                   test rcx, rcx              the end is written as well
      743e                     jz   done
      4c8d053c000000           lea  r8, [rip+table]
      31c0             prefix: xor  eax, eax
      41803800                 cmp  byte [r8], 0          no prefix is left
      7429                     je   keep
      458a08           char:   mov  r9b, [r8]
      49ffc0                   inc  r8
      4584c9                   test r9b, r9b              all of it is there: overwrite this variable
      74d7                     jz   next
      448a1401                 mov  r10b, [rcx+rax]
      4180ca20                 or   r10b, 0x20            whatever its case is
      4538d1                   cmp  r9b, r10b
      488d4001                 lea  rax, [rax+1]
      74e4                     je   char
      458a08           skip:   mov  r9b, [r8]
      49ffc0                   inc  r8
      4584c9                   test r9b, r9b
      75f5                     jnz  skip
      ebcf                     jmp  prefix
      4883c708         keep:   add  rdi, 8
      ebb3                     jmp  next
      e900000000       done:   jmp  the entry point that was
    `),
    jumpSize: 5,
    writeJump: (file, at, distance) => file.writeInt32LE(distance - 5, at + 1),
  },
  183: {
    instructions: hex(`
      e10340f9         entry:  ldr  x1, [sp]              the count of arguments
      e26f218b                 add  x2, sp, x1, lsl #3
      42400091                 add  x2, x2, #16           behind them, the environment: to read
      e30302aa                 mov  x3, x2                and to write
      448440f8         next:   ldr  x4, [x2], #8
      640000f9                 str  x4, [x3]
      240200b4                 cbz  x4, done              the end is written as well
      25020010                 adr  x5, table
      070080d2         prefix: mov  x7, #0
      a6004039                 ldrb w6, [x5]
      66010034                 cbz  w6, keep              no prefix is left
      a6144038         char:   ldrb w6, [x5], #1
      06ffff34                 cbz  w6, next              all of it is there: overwrite this variable
      88686738                 ldrb w8, [x4, x7]
      e7040091                 add  x7, x7, #1
      08011b32                 orr  w8, w8, #0x20         whatever its case is
      df00086b                 cmp  w6, w8
      40ffff54                 b.eq char
      a6144038         skip:   ldrb w6, [x5], #1
      e6ffff35                 cbnz w6, skip
      f4ffff17                 b    prefix
      63200091         keep:   add  x3, x3, #8
      eeffff17                 b    next
      00000014         done:   b    the entry point that was
    `),
    jumpSize: 4,
    writeJump: (file, at, distance) => {
      if (distance % 4 !== 0 || Math.abs(distance) >= 1 << 27)
        throw new Error(`cannot patch this file: the entry point is out of reach: ${distance}`);
      file.writeUInt32LE((0x14000000 | ((distance / 4) & 0x03ffffff)) >>> 0, at);
    },
  },
};

/** The bytes at the beginning of each line. */
function hex(listing: string): Buffer {
  return Buffer.from(listing.replaceAll(/^\s*([0-9a-f]*).*$/gm, "$1").replaceAll("\n", ""), "hex");
}
