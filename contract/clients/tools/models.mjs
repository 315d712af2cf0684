// Writes the models of the events for TypeScript and Java: node models.mjs DOCUMENT FOLDER
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { argv } from "node:process";
import { JAVA_JACKSON_PRESET, JavaFileGenerator, TS_COMMON_PRESET, TypeScriptFileGenerator } from "@asyncapi/modelina";

const [document, folder] = [readFileSync(argv[2], "utf8"), argv[3]];

const marshalling = { preset: TS_COMMON_PRESET, options: { marshalling: true } };
const typescript = new TypeScriptFileGenerator({ presets: [marshalling], enumType: "union", mapType: "record", moduleSystem: "ESM" });
await typescript.generateToFiles(document, join(folder, "typescript", "events"), { exportType: "named" });

const java = new JavaFileGenerator({ presets: [JAVA_JACKSON_PRESET], collectionType: "List" });
await java.generateToFiles(document, join(folder, "java", "events"), { packageName: "events" });
