/** What patching needs of a 64-bit little-endian ELF file; the layouts are those of elf(5). */

export interface Segment {
  /** Where its program header stands in the file. */
  readonly header: number;
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly address: number;
  readonly fileSize: number;
  readonly memorySize: number;
}

export interface Section {
  /** Where its section header stands in the file. */
  readonly header: number;
  readonly name: string;
  readonly offset: number;
  readonly address: number;
  readonly size: number;
}

export const SegmentType = { load: 1, dynamic: 2, interpreter: 3 } as const;
export const executableFlag = 1;

/** `e_machine`. Throws where this is not such a file. */
export function machineOf(file: Buffer): number {
  const isElf64 = file.length > 64 && file.readUInt32BE(0) === 0x7f454c46 && file.readUInt16LE(4) === 0x0102;
  if (!isElf64) throw new Error("cannot patch this file: it is no 64-bit little-endian ELF");
  return file.readUInt16LE(18);
}

export function entryOf(file: Buffer): number {
  return number(file, 24);
}

export function setEntry(file: Buffer, address: number): void {
  file.writeBigUInt64LE(BigInt(address), 24);
}

export function segmentsOf(file: Buffer): Segment[] {
  const table = number(file, 32);
  const size = file.readUInt16LE(54);
  return Array.from({ length: file.readUInt16LE(56) }, (_, index) => {
    const header = table + index * size;
    return {
      header,
      type: file.readUInt32LE(header),
      flags: file.readUInt32LE(header + 4),
      offset: number(file, header + 8),
      address: number(file, header + 16),
      fileSize: number(file, header + 32),
      memorySize: number(file, header + 40),
    };
  });
}

/** Moves the beginning of a segment down by so many bytes, in the file and in memory. */
export function growDown(file: Buffer, segment: Segment, by: number): void {
  const write = (value: number, at: number) => file.writeBigUInt64LE(BigInt(value), segment.header + at);
  write(segment.offset - by, 8);
  write(segment.address - by, 16);
  write(segment.address - by, 24);
  write(segment.fileSize + by, 32);
  write(segment.memorySize + by, 40);
}

export function sectionsOf(file: Buffer): Section[] {
  const table = number(file, 40);
  const size = file.readUInt16LE(58);
  const header = (index: number) => table + index * size;
  const names = number(file, header(file.readUInt16LE(62)) + 24);
  return Array.from({ length: file.readUInt16LE(60) }, (_, index) => {
    const name = names + file.readUInt32LE(header(index));
    return {
      header: header(index),
      name: file.toString("latin1", name, file.indexOf(0, name)),
      address: number(file, header(index) + 16),
      offset: number(file, header(index) + 24),
      size: number(file, header(index) + 32),
    };
  });
}

export function setSectionSize(file: Buffer, section: Section, size: number): void {
  file.writeBigUInt64LE(BigInt(size), section.header + 32);
}

/** The entries of the dynamic section: where each stands, its tag and its value. */
export function dynamicOf(
  file: Buffer,
): { readonly at: number; readonly tag: number; readonly value: number }[] {
  const { offset, fileSize } = only(
    segmentsOf(file).filter((each) => each.type === SegmentType.dynamic),
    "dynamic segment",
  );
  return Array.from({ length: fileSize / 16 }, (_, index) => {
    const at = offset + index * 16;
    return { at, tag: number(file, at), value: number(file, at + 8) };
  });
}

/** The one element there has to be: what is found twice, or not at all, is not the file that we know. */
export function only<T>(found: readonly T[], what: string): T {
  const [first] = found;
  if (first === undefined || found.length !== 1)
    throw new Error(`cannot patch this file: ${found.length} places instead of one: ${what}`);
  return first;
}

/** Throws where bytes that a patch takes for padding are used. */
export function requirePadding(file: Buffer, from: number, to: number, what: string): void {
  if (from > to || file.subarray(from, to).some((byte) => byte !== 0))
    throw new Error(`cannot patch this file: no room for ${what} at offset ${from}`);
}

/** Offsets and addresses of our files are far below 2^53. */
function number(file: Buffer, at: number): number {
  return Number(file.readBigUInt64LE(at));
}
