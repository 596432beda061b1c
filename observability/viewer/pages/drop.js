// A file of OTLP JSON that is dropped on any page is opened.
import { acceptDrops } from "./trace/file.js";

acceptDrops(() => location.assign("/open"));
