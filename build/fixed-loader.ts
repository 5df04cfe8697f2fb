import {
  dynamicOf,
  only,
  requirePadding,
  type Section,
  SegmentType,
  sectionsOf,
  segmentsOf,
  setSectionSize,
} from "./elf.ts";

const Tag = { strings: 5, stringsSize: 10, rpath: 15, debug: 21, runpath: 29 } as const;

/**
 * Makes an executable take its loader and libraries from one fixed folder, whatever the host has: musl hosts have no
 * glibc, others have one in unusual places. The interpreter is written over the old one; the search path is a
 * DT_RPATH, which no variable precedes (ld.so(8)) and which also holds for the libraries themselves. It takes the
 * place of DT_DEBUG, which only debuggers read, so that nothing moves: `patchelf` would move the headers.
 * Throws where the file is not laid out as expected.
 */
export function fixLoader(file: Buffer, interpreter: string, folder: string): void {
  const old = only(
    segmentsOf(file).filter((each) => each.type === SegmentType.interpreter),
    "interpreter",
  );
  if (interpreter.length >= old.fileSize)
    throw new Error(`cannot patch this file: the interpreter's path is too long: ${interpreter}`);
  file.fill(0, old.offset, old.offset + old.fileSize);
  file.write(interpreter, old.offset, "latin1");

  const dynamic = dynamicOf(file);
  const entry = (tag: number, what: string) =>
    only(
      dynamic.filter((each) => each.tag === tag),
      what,
    );
  if (dynamic.some(({ tag }) => tag === Tag.rpath || tag === Tag.runpath))
    throw new Error("cannot patch this file: it has a search path already");
  const strings = entry(Tag.strings, "DT_STRTAB");
  const { offset, address } = roomAfterReadOnlyTables(file, folder.length + 1);
  file.write(folder, offset, "latin1");
  const path = entry(Tag.debug, "DT_DEBUG").at;
  file.writeBigUInt64LE(BigInt(Tag.rpath), path);
  file.writeBigUInt64LE(BigInt(address - strings.value), path + 8);
  // The string stands behind the table, with other tables in between: it reaches that far now.
  const end = address + folder.length + 1 - strings.value;
  file.writeBigUInt64LE(BigInt(end), entry(Tag.stringsSize, "DT_STRSZ").at + 8);
  setSectionSize(file, section(file, ".dynstr"), end);
}

/** Padding in the first, read-only segment: the constants behind the tables begin on a page of their own. */
function roomAfterReadOnlyTables(file: Buffer, size: number): { offset: number; address: number } {
  const constants = section(file, ".rodata");
  const before = section(file, ".rela.plt");
  const offset = before.offset + before.size;
  requirePadding(file, offset, constants.offset, "the search path");
  if (constants.offset - offset < size)
    throw new Error("cannot patch this file: no room for the search path");
  return { offset, address: before.address + before.size };
}

function section(file: Buffer, name: string): Section {
  return only(
    sectionsOf(file).filter((each) => each.name === name),
    name,
  );
}
