import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  behindWrappers,
  environmentFile,
  environmentOf,
  putIn,
  readUnit,
  splitWords,
} from "../../src/host/units.ts";

const service = (...lines: string[]) =>
  ["[Unit]", "ExecStart=/not/this", "[Service]", ...lines, ""].join("\n");
const argvOf = (...texts: string[]) => readUnit(texts).argv;

describe("a unit's command", () => {
  test("is that of its service section, with quotes and escapes taken off", () => {
    const text = service(`ExecStart=/usr/bin/k3s server "--flag=a b" 'c  d' e\\x20f g"h i"j`);
    expect(argvOf(text)).toEqual(["/usr/bin/k3s", "server", "--flag=a b", "c  d", "e f", "gh ij"]);
  });

  test("goes on in the next line after a backslash, comments in between passed over", () => {
    const text = service(
      "ExecStart=/usr/bin/k3s \\",
      "# a comment \\",
      "; another",
      "    server \\",
      "  --debug",
      "Restart=always",
    );
    expect(argvOf(text)).toEqual(["/usr/bin/k3s", "server", "--debug"]);
  });

  test("is the drop-in's where that empties it first, and else the first one", () => {
    const own = service("ExecStart=/usr/bin/containerd");
    expect(argvOf(own, service("ExecStart=", "ExecStart=/opt/containerd -c /x"))).toEqual([
      "/opt/containerd",
      "-c",
      "/x",
    ]);
    expect(argvOf(own, service("ExecStart=/opt/containerd"))).toEqual(["/usr/bin/containerd"]);
    expect(argvOf(own, service("ExecStart="))).toEqual([]);
  });

  test("has no prefixes, no name that it is only called by, and ends where the next one begins", () => {
    expect(argvOf(service("ExecStart=-+/usr/bin/crio --listen /x"))).toEqual([
      "/usr/bin/crio",
      "--listen",
      "/x",
    ]);
    expect(argvOf(service("ExecStart=@/usr/bin/crio other --debug"))).toEqual(["/usr/bin/crio", "--debug"]);
    expect(argvOf(service("ExecStart=/usr/bin/crio wipe ; /usr/bin/crio"))).toEqual([
      "/usr/bin/crio",
      "wipe",
    ]);
    expect(readUnit([service("ExecStart=:/usr/bin/crio ${X}")]).expands).toBe(false);
  });

  test("of words that were quoted comes back as those words", () => {
    const word = fc.string({ unit: "grapheme-ascii", minLength: 1 });
    const quoted = (text: string) => `"${text.replaceAll(/["\\]/g, "\\$&")}"`;
    fc.assert(
      fc.property(fc.array(word), (words) => {
        expect(splitWords(words.map(quoted).join("  "))).toEqual(words);
      }),
    );
  });
});

describe("a unit's variables", () => {
  const none = { values: {}, complete: true };

  test("stand for a part of a word in braces, and for any number of words without", () => {
    const values = { A: "one two", B: "b" };
    const argv = ["/p", "${A}", "x${B}y", "$A", "$B", "a$B", "$$B", "$NONE", "${NONE}", "-c=${B}/${B}"];
    expect(putIn(argv, { values, complete: true })).toEqual([
      "/p",
      "one two",
      "xby",
      "one",
      "two",
      "b",
      "a$B",
      "$B",
      "",
      "-c=b/b",
    ]);
  });

  test("that may be set in a file that nobody can see stay as they are written", () => {
    expect(putIn(["$A", "x${A}"], { ...none, complete: false })).toEqual(["${A}", "x${A}"]);
  });

  test("come from its files before itself, the last one first, and an absent file is none", () => {
    const unit = readUnit([
      service(
        'Environment="A=a b" B=b C=c',
        "EnvironmentFile=-/absent",
        "EnvironmentFile=/one",
        "EnvironmentFile=/two",
      ),
    ]);
    const files: Record<string, string> = { "/one": "B=one\nC=one\n", "/two": "C=two\n" };
    expect(environmentOf(unit, (path) => files[path] ?? "absent")).toEqual({
      values: { A: "a b", B: "one", C: "two" },
      complete: true,
    });
    expect(environmentOf(unit, () => undefined).complete).toBe(false);
    expect(
      environmentOf(readUnit([service("Environment=A=a", "Environment=", "Environment=B=b")]), () => "absent")
        .values,
    ).toEqual({ B: "b" });
  });

  test("are read from files as systemd reads those, and not as a shell would", () => {
    const text = [
      "# no=comment",
      "; no=comment either",
      "A=plain # is no comment",
      "  B = spaced  ",
      "C='single $X \\n'",
      'D="double \\" \\$ \\n"more',
      "E=one\\",
      "two",
      'F="over',
      'two lines"',
      "export G=no",
      "H=",
      "I=a\\ b",
    ].join("\n");
    expect(environmentFile(text)).toEqual([
      "A=plain # is no comment",
      "B=spaced",
      "C=single $X \\n",
      'D=double " $ \\nmore',
      "E=onetwo",
      "F=over\ntwo lines",
      "H=",
      "I=a b",
    ]);
  });
});

test("a program that only starts another is looked through where it is plain what it starts", () => {
  const engine = ["/usr/bin/containerd", "-c", "/x"];
  expect(behindWrappers(["/usr/bin/env", "PATH=/x", "A=b", ...engine])).toEqual(engine);
  expect(behindWrappers(["/bin/sh", "-c", "exec /usr/bin/containerd -c /x"])).toEqual(engine);
  for (const script of [
    "/usr/bin/containerd -c $X",
    "a; containerd",
    "containerd & wait",
    "containerd 'a b'",
  ]) {
    const argv = ["/bin/sh", "-c", script];
    expect(behindWrappers(argv)).toEqual(argv);
  }
});
