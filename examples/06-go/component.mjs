// node component.mjs CORE WORLD COMPONENT: what Go compiled, with its world written into it and WASI
// preview 1 answered by empty-room.wat, becomes a component.
import { componentEmbed, componentNew, parse } from "@bytecodealliance/jco-transpile/wasm-tools";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";

const [core, world, component] = process.argv.slice(2);
const text = (path) => readFileSync(path, "utf8");
// These tools take the WIT as one text: the worlds, and the contract's files as a package within it.
const heading = /^package (leveret:routing@[\d.]+);$/m;
const contract = readdirSync("contract").map((name) => text(`contract/${name}`));
const [, name] = contract[0].match(heading);
const witSource = `${text("worlds.wit")}package ${name} {${contract.map((file) => file.replace(heading, "")).join("")}}`;

const embedded = await componentEmbed({ binary: readFileSync(core), witSource, world, stringEncoding: "utf8" });
const room = await parse(text("empty-room.wat"));
writeFileSync(component, await componentNew(embedded, [["wasi_snapshot_preview1", room]]));
