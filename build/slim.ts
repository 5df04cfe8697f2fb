import { only } from "./elf.ts";
import { cutPages } from "./elf-cut.ts";

/**
 * Takes the Unicode data of other languages than English, and the dictionaries by which some are split into words, out
 * of an executable: 9 MB that nothing of ours asks for. What remains is what ICU's own documentation calls filtered data
 * (its user guide, "ICU Data Build Tool"): whoever asks for a locale that is absent gets the root's. The archive of ICU
 * that is linked into the runtime is packed anew in its place, and the pages that this frees are cut out.
 * Returns the shorter file. Throws where there is not exactly one such archive, or it is not as expected.
 */
export function slim(file: Buffer): Buffer {
  const at = findArchive(file);
  const headerSize = file.readUInt16LE(at);
  const items = itemsOf(file, at + headerSize);
  const last = items.at(-1);
  if (items.length < 1000 || last === undefined || isKept(last.name))
    throw new Error(`cannot take data out of this file: ${items.length} items, the last one ${last?.name}`);
  const packed = pack(items.filter((each) => isKept(each.name)));
  const begin = at + headerSize;
  // Where the last item ends is not written anywhere, so it stays as it is.
  const end = last.offset;
  if (packed.length > end - begin) throw new Error("cannot take data out of this file: it would grow");
  file.fill(0, begin, end);
  packed.copy(file, begin);
  return cutPages(file, begin + packed.length, end);
}

interface Item {
  readonly name: string;
  /** In the file. */
  readonly offset: number;
  readonly bytes: Buffer;
}

/** By its header (`DataHeader` and `UDataInfo` of ICU's udata.h): two magic bytes, and "CmnD" as the format. */
function findArchive(file: Buffer): number {
  const found: number[] = [];
  for (let at = file.indexOf("CmnD"); at !== -1; at = file.indexOf("CmnD", at + 1))
    if (at >= 12 && file.readUInt16BE(at - 10) === 0xda27) found.push(at - 12);
  return only(found, "archive of Unicode data");
}

/** The table: a count, then for each item where its name and its content are, counted from the table. */
function itemsOf(file: Buffer, table: number): Item[] {
  const count = file.readUInt32LE(table);
  const offset = (index: number) => table + file.readUInt32LE(table + 4 + index * 8 + 4);
  return Array.from({ length: count }, (_, index) => {
    const name = table + file.readUInt32LE(table + 4 + index * 8);
    const begin = offset(index);
    const end = index + 1 < count ? offset(index + 1) : begin;
    if (end < begin || begin % 16 !== table % 16)
      throw new Error("cannot take data out of this file: its items are not in order");
    return {
      name: file.toString("latin1", name, file.indexOf(0, name)),
      offset: begin,
      bytes: Buffer.from(file.subarray(begin, end)),
    };
  });
}

function pack(items: readonly Item[]): Buffer {
  const names = items.map((each) => Buffer.from(`${each.name}\0`, "latin1"));
  const tableSize = 4 + items.length * 8;
  const namesSize = names.reduce((size, each) => size + each.length, 0);
  const start = Math.ceil((tableSize + namesSize) / 16) * 16;
  const table = Buffer.alloc(start);
  table.writeUInt32LE(items.length, 0);
  let name = tableSize;
  let content = start;
  for (const [index, item] of items.entries()) {
    table.writeUInt32LE(name, 4 + index * 8);
    table.writeUInt32LE(content, 4 + index * 8 + 4);
    name += names[index]?.copy(table, name) ?? 0;
    content += item.bytes.length;
  }
  return Buffer.concat([table, ...items.map((each) => each.bytes)]);
}

/**
 * Everything that is no dictionary and does not belong to one language; all of English; the lists of what there is
 * (`res_index`), as without them not even English would be known.
 */
function isKept(path: string): boolean {
  const name = path.slice(path.lastIndexOf("/") + 1);
  if (name.endsWith(".dict")) return false;
  return name === "res_index.res" || !/^[a-z]{2,3}(_\w*)?\.res$/.test(name) || /^en[_.]/.test(name);
}
