// What stands in for the Python server in a viewer file.
//
// The viser client talks to its server through one Worker: it posts {type: "send", message}, and is posted
// {type: "connected"} and {type: "message_batch", messages}. Here that Worker is an object of this page. It first
// hands over the recorded scene and panel, then answers each control from a table: `controls` of element and value.
(() => {
  "use strict";
  const ARRAYS = { "<f4": Float32Array, "<f8": Float64Array, "|u1": Uint8Array, "<u2": Uint16Array, "<u4": Uint32Array,
                   "|i1": Int8Array, "<i2": Int16Array, "<i4": Int32Array };

  const load = async () => {
    const text = atob(document.getElementById("crowdmesh-page").textContent);
    const packed = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const data = await new Response(stream).arrayBuffer();
    // 8 bytes: length of the JSON; the JSON; the arrays. All of them begin at multiples of 8 bytes.
    const length = Number(new DataView(data).getBigUint64(0, true));
    const arrays = 8 * Math.ceil((8 + length) / 8);
    const page = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 8, length)));
    const restore = (value) => {
      if (Array.isArray(value)) return value.map(restore);
      if (value === null || typeof value !== "object") return value;
      if ("__array" in value) {
        const [start, bytes, type] = value.__array;
        return new ARRAYS[type](data, arrays + start, bytes / ARRAYS[type].BYTES_PER_ELEMENT);
      }
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, restore(inner)]));
    };
    return { ...page, messages: restore(page.messages) };
  };
  const loaded = load();

  class Server extends EventTarget {
    onmessage = null;
    scene = 0;
    tell(data) { this.onmessage?.({ data }); }
    async postMessage(data) {
      const page = await loaded;
      if (data.type === "set_server") {
        this.tell({ type: "connected" });
        this.tell({ type: "message_batch", messages: structuredClone(page.messages) });
      } else if (data.type === "send" && data.message.type === "GuiUpdateMessage") {
        const answer = page.controls[data.message.uuid]?.[String(data.message.updates.value)];
        if (answer === undefined) return;
        this.scene = answer.scene ?? this.scene;
        const view = answer.view === null ? [] : page.views[this.scene][answer.view];
        this.tell({ type: "message_batch", messages: structuredClone([...answer.messages, ...view]) });
      }
    }
    terminate() {}
  }
  window.Worker = Server;
  // The client notes its server in the address, which a page opened from a file may not change.
  if (location.protocol === "file:") history.replaceState = () => {};
})();
