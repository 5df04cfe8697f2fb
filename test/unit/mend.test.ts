import { describe, expect, test } from "bun:test";
import { renderBlock } from "../../src/toml/edit.ts";
import { mend } from "../../src/toml/mend/mend.ts";

const path = "/etc/containerd/config.toml";
const whole = `# the platform team's
version = 2
imports = [
  "/etc/containerd/conf.d/*.toml", # theirs
]

[plugins."io.containerd.grpc.v1.cri".registry.configs."r.example.com".auth]
  password = "hunter2-canary"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[timeouts]
  "io.containerd.timeout.shim.load" = "5s"
  "io.containerd.timeout.shim.shutdown" = "3s"
`;
const body = `[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata-qemu]
runtime_type = "io.containerd.kata-qemu.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata-qemu.options]
ConfigPath = "/opt/kata/configuration.toml"
`;
const block = renderBlock({ owner: "default", body });
const empty = renderBlock({ owner: "default", body: `[x]\n` })
  .replace(/sha256=\w+/, "sha256=e3b0c44298fc1c14")
  .replace("[x]\n", "");
const withBlock = `${whole}\n${block}`;
const owners = new Map([["default", ["kata-qemu"]]]);

function run(damaged: string | Uint8Array, acceptsMark = false) {
  const bytes = typeof damaged === "string" ? new TextEncoder().encode(damaged) : damaged;
  const { bytes: after, ...more } = mend(bytes, { path, owners, acceptsMark });
  return { ...more, after: after === undefined ? undefined : Buffer.from(after).toString("utf8") };
}

function join(...parts: readonly (string | number[])[]): Uint8Array {
  return new Uint8Array(
    Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part) : Buffer.from(part)))),
  );
}

describe("what can be told is mended, and all else stays byte for byte", () => {
  const cases: Readonly<Record<string, readonly [damaged: string | Uint8Array, mended: string]>> = {
    'a stray `3s"` behind the end of the file (kata-containers#10924)': [`${whole}3s"\n`, whole],
    "the same without a line end": [`${whole}3s"`, whole],
    "half a line, and the lines that followed it in an older version": [
      `${whole}meout.shim.load" = "5s"\n  "io.containerd.timeout.shim.shutdown" = "3s"\n`,
      whole,
    ],
    "the end of a header, and what stood below it in an older version": [
      `${whole}cri".containerd.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n`,
      whole,
    ],
    "a stray line in the middle": [whole.replace("[timeouts]", "io.cont\n[timeouts]"), whole],
    "a stray line in an array": [whole.replace(" # theirs\n", ' # theirs\n  d/x.toml",\n'), whole],
    "a file that was written twice": [whole + whole, whole],
    "a file that ends within a line": [`${whole}[debug]\n  level = "de`, `${whole}[debug]\n`],
    "a file that ends within a header": [`${whole}[deb`, whole],
    "a file that ends within an array": [`${whole}x = [\n  "a",\n  "b`, whole],
    "a file that ends within a string over several lines": [`${whole}x = """`, whole],
    "a tail of NUL bytes": [join(whole, Array(512).fill(0)), whole],
    "a line of NUL bytes": [join(whole.slice(0, 22), [0, 0, 0, 10], whole.slice(22)), whole],
    "a byte order mark": [join([0xef, 0xbb, 0xbf], whole), whole],
    "a line that is no UTF-8": [join(whole, [0x78, 0x20, 0x3d, 0x20, 0x22, 0xff, 0x22, 10]), whole],
    "a comment that is no UTF-8, above keys": [
      join(whole.slice(0, 22), [0x23, 0x5b, 0xff, 10], whole.slice(22)),
      whole,
    ],
    "a table that is there twice": [
      whole.replace("[timeouts]", '[timeouts]\n  "io.containerd.timeout.shim.load" = "5s"\n\n[timeouts]'),
      whole.replace("[timeouts]\n", "\n[timeouts]\n"),
    ],
    "a key that is there twice": [whole.replace("version = 2", "version = 2\nversion = 2"), whole],
    "an array that lost its end": [whole.replace("imports = [", "x = [\n  'a',\n  'b',\nimports = ["), whole],
  };
  for (const [name, [damaged, mended]] of Object.entries(cases)) {
    test(name, () => {
      const { after, damages } = run(damaged);
      expect(after).toBe(mended);
      expect(damages.length).toBeGreaterThan(0);
      expect(damages.every(({ remedy }) => remedy !== undefined)).toBe(true);
    });
  }

  test("CR LF files keep their line ends", () => {
    const crlf = whole.replaceAll("\n", "\r\n");
    expect(run(`${crlf}3s"\r\n`).after).toBe(crlf);
  });

  test("a byte order mark stays where the engine passes over it", () => {
    expect(run(join([0xef, 0xbb, 0xbf], whole, '3s"\n'), true).after).toBe(`\ufeff${whole}`);
  });

  test("a whole file is left as it is", () => {
    expect(run(withBlock)).toEqual({ after: withBlock, damages: [], anew: [], gaveWay: [] });
  });
});

describe("a damaged block of ours", () => {
  const rewritten: Readonly<Record<string, string>> = {
    "that no longer parses": withBlock.replace('runtime_type = "io.containerd.kata', 'runtime_type = io"'),
    "that lost its beginning": withBlock.replace(/# BEGIN.*\n/, ""),
    "whose BEGIN marker is cut off": withBlock.replace(/( format=1).*\n/, "$1\n"),
    "that lost lines and its end": withBlock.replace(/\nConfigPath[\s\S]*$/, '\nConfigPath = "/op'),
    "that lost all but its first lines": withBlock.slice(
      0,
      withBlock.indexOf('runtime_type = "io.containerd.kata') + 9,
    ),
  };
  for (const [name, damaged] of Object.entries(rewritten)) {
    test(`${name} makes room for a new one`, () => {
      const { after, anew } = run(damaged);
      expect(anew).toEqual(["default"]);
      expect(after?.trimEnd()).toBe(`${whole}\n${empty}`.trimEnd());
    });
  }

  test("that only lost its END marker gets it back, by the hash in the other one", () => {
    const { after, anew } = run(withBlock.replace("# END shimctl default\n", "[debug]\nlevel = 'info'\n"));
    expect(after).toBe(`${withBlock}[debug]\nlevel = 'info'\n`);
    expect(anew).toEqual([]);
  });

  test("whose BEGIN marker names an owner that nobody knows gets back the one of its END", () => {
    expect(run(withBlock.replace("BEGIN shimctl default", "BEGIN shimctl efault"))).toMatchObject({
      after: withBlock,
      anew: [],
    });
  });

  test("with marker lines in it, or alone elsewhere, loses those and nothing else", () => {
    const [begin = "", end = ""] = [/# BEGIN.*\n/, /# END.*\n/].map(
      (line) => line.exec(withBlock)?.[0] ?? "",
    );
    for (const line of [begin, end]) {
      expect(run(withBlock.replace('runtime_type = "io.containerd.kata', (key) => line + key)).after).toBe(
        withBlock,
      );
      expect(run(withBlock.replace("version", (key) => line + key)).after).toBe(withBlock);
    }
  });

  test("that was cut off within its END marker ends with a whole one", () => {
    expect(run(withBlock.slice(0, -9))).toMatchObject({ after: withBlock, anew: [] });
  });

  test("that somebody edited, and that parses, is left as it is", () => {
    const edited = withBlock.replace("kata-qemu.v2", "kata-x.v2");
    expect(run(edited)).toMatchObject({ after: edited, damages: [] });
  });
});

describe("a table that somebody else defines as well", () => {
  const theirs = `
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata-qemu]
  runtime_type = "io.containerd.theirs.v2"
`;
  const more = `${body}
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata-clh]
runtime_type = "io.containerd.kata-clh.v2"
`;
  const other = more.slice(body.length + 1);

  test("goes from our block, and with it the block that held nothing else", () => {
    expect(run(withBlock + theirs)).toMatchObject({ after: whole + theirs, gaveWay: ["default"] });
    expect(run(`${whole}${theirs}\n${block}`)).toMatchObject({ after: whole + theirs, gaveWay: ["default"] });
  });

  test("stays in our block where it says nothing there that ours does not say", () => {
    const header = theirs.split("\n")[1] ?? "";
    for (const same of [`${header}\n`, `${body}`])
      expect(run(`${withBlock}\n${same}`)).toMatchObject({
        after: expect.stringContaining(block),
        gaveWay: [],
      });
    const options = `${body.split("\n").slice(0, 3).join("\n")}\n${header.replace("]", ".options]")}\nConfigPath = "/x"\n`;
    expect(run(`${withBlock}\n${options}`)).toMatchObject({ after: `${whole}\n${options}` });
  });

  test("goes from our block alone, which is whole again with what is left of it", () => {
    for (const bodyOf of [more, `${other}\n${body}`]) {
      const text = `${whole}\n${renderBlock({ owner: "default", body: bodyOf })}${theirs}`;
      expect(run(text).after).toBe(`${whole}\n${renderBlock({ owner: "default", body: other })}${theirs}`);
    }
  });
});

describe("what cannot be told is said and left", () => {
  const cases: Readonly<
    Record<string, readonly [damaged: string | Uint8Array, line: number, message: RegExp]>
  > = {
    "two values of one key": [
      whole.replace("version = 2", "version = 2\nversion = 3"),
      3,
      /which of the two/,
    ],
    "two tables that say different things": [`${whole}[timeouts]\n  x = "1s"\n`, 16, /which of the two/],
    "a header that is cut off above its keys": [
      whole.replace("[timeouts]", "[timeou"),
      13,
      /the table that the lines below it belong to/,
    ],
    "half a line that ends in the header of what follows": [
      whole.replace('"io.containerd.runc.v2"\n\n', '"io.cont'),
      11,
      /the table that the lines below it belong to/,
    ],
    "a string over several lines that never ends": [
      whole.replace("version = 2", 'version = 2\nx = """'),
      3,
      /what belongs to the string/,
    ],
    "a comma that is missing in an array": [
      "x = [\n  'a'\n  'b'\n]\ny = 1\nz = 1\n",
      3,
      /which of it and the line above/,
    ],
    "a comma that is missing in an array of one line": [
      'version = 2\nimports = ["/a.toml" "/b.toml"]\nx = 1\ny = 1\n',
      2,
      /what is lost with the comma/,
    ],
    "a comma that is missing behind the first of several elements": [
      'version = 2\nimports = [\n  "/a.toml"\n  "/b.toml",\n  "/c.toml",\n]\nx = 1\ny = 1\n',
      4,
      /which of it and the line above/,
    ],
    "the bare name of a table above its keys": [
      `${whole}[debug]\n  level = "info"\nmetrics\n  address = "x"\n`,
      18,
      /the table that the lines below it belong to/,
    ],
    "NUL bytes over a header and its line end": [
      `${whole}[debug]\n  level = "info"\n${"\0".repeat(40)}ess = "x"\n  grpc_histogram = true\n`,
      18,
      /the table that the lines below it belong to/,
    ],
    "the last segment of a header that stands above too": [
      `${whole}[a.runc.options]\n  SystemdCgroup = true\n[a.crun]\n  type = "x"\n.options]\n  SystemdCgroup = true\n`,
      20,
      /the table that the lines below it belong to/,
    ],
    "two values of a key, with what follows another such key above": [
      `${whole}[a.options]\n  BinaryName = "/a"\n  SystemdCgroup = true\n[b.options]\n  BinaryName = "/b"\n  BinaryName = "/a"\n  SystemdCgroup = true\n`,
      21,
      /which of the two/,
    ],
    "a string that has lost its end, and a second one": [
      `${whole}[a]\n  type = """\nx\n[debug]\n  level = "debug"\n[b]\n  type = """\nx\n"""\n`,
      24,
      /what belongs to the string/,
    ],
    "lines that end in a carriage return alone": [whole.replaceAll("\n", "\r"), 1, /carriage return/],
    "an empty file": ["", 1, /empty/],
    "a file of NUL bytes": [new Uint8Array(4096), 1, /empty/],
    "another file": ["#!/bin/sh\nset -e\necho hello world\nexit 0\n", 2, /more of it is damaged/],
    "UTF-16": [new Uint8Array(Buffer.from(`\ufeff${whole}`, "utf16le")), 1, /UTF-16/],
  };
  for (const [name, [damaged, line, message]] of Object.entries(cases)) {
    test(name, () => {
      const { after, damages } = run(damaged);
      expect(after).toBeUndefined();
      const left = damages.find(({ remedy }) => remedy === undefined);
      expect(left?.line).toBe(line);
      expect(left?.message).toMatch(message);
    });
  }
});

test("a header below an array that has lost its end stays, quoted as it may be", () => {
  const { after } = run(`${whole}[debug]\n  x = [\n    "a",\n\n["b"."c.d"]\n  y = 1\n`);
  expect(after).toEndWith('["b"."c.d"]\n  y = 1\n');
});

test("the block of a newer release is left alone, and what is damaged beside it is mended", () => {
  const newer = block.replace(/format=1 sha256=\w+/, "format=2 blake3=zz");
  expect(newer).not.toBe(block);
  expect(run(`${whole}\n${newer}3s"\n`).after).toBe(`${whole}\n${newer}`);
});

test("a block that the administrator has added a table to keeps it, and loses the damage alone", () => {
  const mine = '\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.mine]\nruntime_type = "x"\n';
  const edited = block.replace("# END", `${mine}# END`);
  expect(run(`${whole}\n${edited.replace(mine, `3s"\n${mine}`)}`).after).toBe(`${whole}\n${edited}`);
  const torn = `${whole}\n${edited.replace("# END shimctl default", "# END shimctl defaul")}`;
  expect(run(torn).after).toBe(`${whole}\n${edited}`);
});

test("a block whose BEGIN marker names an owner that nobody knows is no other owner's", () => {
  const theirs = renderBlock({ owner: "team-b", body: body.replaceAll("kata-qemu", "kata-clh") });
  const edited = theirs
    .replace("runtime_type", 'mine = "1"\nruntime_type')
    .replace("# END shimctl team-b", "# END shimctl team-");
  const { after, anew } = run(`${whole}\n${edited}`);
  expect([after ?? edited, anew]).toEqual([expect.stringContaining('mine = "1"'), []]);
});

test("a damage is shown with its line, redacted, and a caret", () => {
  const [damage] = run(whole.replace('"hunter2-canary"', '"hunter2-canary')).damages;
  expect(damage?.line).toBe(8);
  expect(damage?.excerpt).toContain("^");
  expect(damage?.excerpt).not.toContain("hunter2");
});

test("50,000 lines take no more than a few seconds", () => {
  const many = Array.from({ length: 12_500 }, (_, at) => `[t${at}]\na = "x"\nb = [\n1 ]\n`).join("");
  const started = performance.now();
  const { after } = run(`version = 2\n${many}3s"\n${"x y\n".repeat(50)}`);
  expect(after).toBe(`version = 2\n${many}`);
  // Far less on a machine that has nothing else to do.
  expect(performance.now() - started).toBeLessThan(10_000);
}, 30_000);
