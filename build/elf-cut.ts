import { only, type Segment, SegmentType, sectionsOf, segmentsOf, setSectionSize } from "./elf.ts";

/** Pages are at most 64 KiB on x86-64 and arm64. */
const page = 0x10000;
const readOnly = 4;
const note = 4;

/**
 * Takes whole pages between two offsets out of a file that nothing reads; in memory there is a gap in their place, and
 * everything keeps its address. The read-only segment becomes two for it. Its header takes the place of PT_NOTE's, which
 * only debuggers look for and which they also find by its sections, as the table has no room for one more.
 * Returns the shorter file. Throws where the file is not laid out as expected.
 */
export function cutPages(file: Buffer, from: number, to: number): Buffer {
  const segments = segmentsOf(file);
  const whole = only(
    segments.filter(
      (each) => each.type === SegmentType.load && each.offset <= from && to <= each.offset + each.fileSize,
    ),
    "segment of the pages to cut",
  );
  if (whole.flags !== readOnly) throw new Error("cannot cut this file: its pages are not read-only");
  only(
    segments.filter((each) => each.type === note),
    "note",
  );
  const shift = whole.address - whole.offset;
  const first = Math.ceil((from + shift) / page) * page - shift;
  const after = Math.floor((to + shift) / page) * page - shift;
  const by = after - first;
  if (by <= 0) return file;

  const shorter = Buffer.concat([file.subarray(0, first), file.subarray(after)]);
  const moved = (offset: number) => (offset >= after ? offset - by : offset);
  const table = segments.flatMap((each): readonly Segment[] => {
    if (each.type === note) return [];
    if (each !== whole) return [{ ...each, offset: moved(each.offset) }];
    const rest = whole.offset + whole.fileSize - after;
    return [
      { ...whole, fileSize: first - whole.offset, memorySize: first - whole.offset },
      { ...whole, offset: first, address: after + shift, fileSize: rest, memorySize: rest },
    ];
  });
  for (const [index, segment] of table.entries()) {
    const header = segments[index]?.header ?? 0;
    const original = segments.find((each) => each.header === segment.header) ?? segment;
    // With the alignment, which is not among the facts.
    file.copy(shorter, header, original.header, original.header + 56);
    const values = [segment.offset, segment.address, segment.address, segment.fileSize, segment.memorySize];
    for (const [at, value] of values.entries()) shorter.writeBigUInt64LE(BigInt(value), header + 8 + at * 8);
  }

  shorter.writeBigUInt64LE(BigInt(moved(Number(file.readBigUInt64LE(40)))), 40);
  // By the old file's headers: the new one has them elsewhere.
  for (const section of sectionsOf(file)) {
    const header = moved(section.header);
    shorter.writeBigUInt64LE(BigInt(moved(section.offset)), header + 24);
    if (section.offset < first && section.offset + section.size > after)
      setSectionSize(shorter, { ...section, header }, first - section.offset);
  }
  return shorter;
}
