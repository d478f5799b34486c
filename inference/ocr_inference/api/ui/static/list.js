// @ts-check
/** The pages: small pictures in the person's order, to be shown, ticked, moved and deleted, by mouse and by keyboard. */
import { Icon } from "./icons.js";
import { language, t, trouble } from "./i18n.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { Choose } from "./welcome.js";

/**
 * @typedef {object} Props
 * @property {typeof import("./store.js")} store
 * @property {import("./queue.js").Queue} queue
 * @property {import("./intake.js").Intake} intake
 * @property {import("./pictures.js").Pictures} pictures
 */

/** @param {Props} props */
export function List({ store, queue, intake, pictures }) {
  const pages = store.pages.value;
  const ticked = store.ticked.value;
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  const next = useRef(/** @type {string | null} */ (null));
  useLayoutEffect(() => {
    if (next.current === null) return;
    /** @type {HTMLElement | null | undefined} */ (list.current?.querySelector(`[data-page="${next.current}"] .show`))?.focus();
    next.current = null;
  });
  /** Rows as they were made, and of what. @type {{current: Map<string, {of: unknown[], row: any}>}} */
  const made = useRef(new Map());
  const [dragged, setDragged] = useState(/** @type {string | null} */ (null));
  const [over, setOver] = useState(/** @type {string | null} */ (null));
  const chosen = ticked.size > 0 ? ticked : new Set(store.currentId.value === null ? [] : [store.currentId.value]);

  /** Move the keyboard's place to a page, once it is drawn there. @param {string | null} id */
  const focus = (id) => (next.current = id);
  /** @param {string} id */
  const show = (id) => (store.currentId.value = id);
  /** @param {string} id @param {number} to */
  const move = (id, to) => {
    const n = store.pages.peek().length;
    if (to < 0 || to >= n) return;
    store.move(id, to);
    store.announce(t("list.moved", { to: to + 1, n }));
  };
  /** @param {Set<string>} ids */
  const remove = (ids) => {
    queue.remove(ids);
    store.announce(t("list.deleted", { n: ids.size }));
    focus(store.currentId.value);
  };
  /** @param {string} id */
  const tick = (id) => {
    const next = new Set(store.ticked.peek());
    if (!next.delete(id)) next.add(id);
    store.ticked.value = next;
  };
  /** @param {KeyboardEvent} event @param {import("./store.js").Page} page @param {number} at */
  const key = (event, page, at) => {
    // As they are now: a row that stays the same has the functions that it was made with.
    const [pages, ticked] = [store.pages.peek(), store.ticked.peek()];
    const step = event.key === "ArrowUp" ? -1 : event.key === "ArrowDown" ? 1 : 0;
    if (step !== 0 && event.altKey) move(page.id, at + step);
    else if (step !== 0 && pages[at + step]) show(pages[at + step].id);
    else if (event.key === "Home") show(pages[0].id);
    else if (event.key === "End") show(pages[pages.length - 1].id);
    else if (event.key === "Delete") return event.preventDefault(), remove(ticked.has(page.id) ? ticked : new Set([page.id]));
    else return;
    event.preventDefault();
    focus(step !== 0 && event.altKey ? page.id : store.currentId.value);
  };
  /** Move what is chosen by one place, as a block. @param {-1 | 1} step */
  const shift = (step) => {
    const ids = pages.filter((page) => chosen.has(page.id)).map((page) => page.id);
    for (const id of step < 0 ? ids : ids.toReversed()) {
      const to = store.pages.value.findIndex((page) => page.id === id) + step;
      if (to >= 0 && to < pages.length && !chosen.has(store.pages.value[to].id)) move(id, to);
    }
  };
  const all = ticked.size === pages.length;
  const reading = new Set(store.jobs.value.filter((job) => job.state === "running").map((job) => job.pageIds[job.fetched]));
  /** @param {import("./store.js").Page} page @param {number} at */
  const row = (page, at) => html`
    <li key=${page.id} data-page=${page.id} draggable
      class="page ${page.id === store.currentId.value ? "current" : ""} ${page.id === dragged ? "dragged" : ""} ${page.id === over ? "over" : ""}"
      onDragStart=${(/** @type {DragEvent} */ event) => {
        event.dataTransfer?.setData("text/plain", page.id);
        setDragged(page.id);
      }}
      onDragOver=${(/** @type {DragEvent} */ event) => dragged !== null && (event.preventDefault(), setOver(page.id))}
      onDragEnd=${() => (setDragged(null), setOver(null))}
      onDrop=${(/** @type {DragEvent} */ event) => {
        if (dragged === null) return;
        event.preventDefault();
        move(dragged, at);
      }}>
      <${Entry} page=${page} at=${at} store=${store} pictures=${pictures} ticked=${ticked.has(page.id)} now=${reading.has(page.id)}
        onTick=${() => tick(page.id)} onShow=${() => show(page.id)} onKey=${(/** @type {KeyboardEvent} */ event) => key(event, page, at)} />
    </li>
  `;
  // Hundreds of them, of which one changes at a time: the others are neither made nor compared again.
  made.current = new Map(
    pages.map((page, at) => {
      const { id } = page;
      const of = [page, at, id === store.currentId.value, ticked.has(id), reading.has(id), dragged, id === over, language.value];
      const old = made.current.get(id);
      return [id, old?.of.every((each, index) => each === of[index]) ? old : { of, row: row(page, at) }];
    }),
  );
  return html`
    <div class="list-head">
      <h2>${t("list.pages", { n: pages.length })}</h2>
      <${Choose} intake=${intake} />
    </div>
    <div class="list-tools" role="toolbar" aria-label=${t("list.tools")}>
      <label class="all"><input type="checkbox" checked=${all} indeterminate=${ticked.size > 0 && !all}
        onChange=${() => (store.ticked.value = all ? new Set() : new Set(pages.map((page) => page.id)))} />
        <span>${ticked.size > 0 ? t("list.ticked", { n: ticked.size }) : t("list.all")}</span></label>
      <button type="button" class="quiet" title=${t("list.up")} aria-label=${t("list.up")} onClick=${() => shift(-1)}><${Icon} name="up" /></button>
      <button type="button" class="quiet" title=${t("list.down")} aria-label=${t("list.down")} onClick=${() => shift(1)}><${Icon} name="down" /></button>
      <button type="button" class="quiet danger" title=${t("list.delete")} aria-label=${t("list.delete")} onClick=${() => remove(chosen)}><${Icon} name="trash" /></button>
    </div>
    <ol class="pages" ref=${list} aria-describedby="list-keys">
      ${[...made.current.values()].map((each) => each.row)}
    </ol>
    <p id="list-keys" class="soft small keys">${t("list.keys")}</p>
  `;
}

/** @param {{page: import("./store.js").Page, at: number, store: Props["store"], pictures: Props["pictures"], ticked: boolean, now: boolean, onTick: () => void, onShow: () => void, onKey: (event: KeyboardEvent) => void}} props */
function Entry({ page, at, store, pictures, ticked, now, onTick, onShow, onKey }) {
  const doc = store.documents.value.get(page.docId);
  const current = page.id === store.currentId.value;
  const name = doc?.name ?? "";
  const where = doc?.error ? "" : doc?.pageCount === null ? t("list.counting") : (doc?.pageCount ?? 1) > 1 ? t("list.page_of", { page: page.index + 1, n: doc?.pageCount ?? 1 }) : "";
  const state = stateOf(page, doc ?? null);
  const said = doc?.error ?? page.readings.at(-1)?.error;
  return html`
    <input type="checkbox" checked=${ticked} onChange=${onTick} aria-label=${t("list.tick", { n: at + 1, name })} />
    <button type="button" class="show" aria-current=${current ? "true" : undefined} tabindex=${current ? 0 : -1} onClick=${onShow} onKeyDown=${onKey}>
      <${Thumb} page=${page} pictures=${pictures} ready=${doc?.pageCount !== null} />
      <span class="about">
        <span class="name" title=${doc?.path}>${name}</span>
        ${where && html`<span class="soft small">${where}</span>`}
        <span class="page-state small ${state}" title=${said ? trouble(said) : undefined}>${state !== "new" && !doc?.error && html`<${Icon} name=${state === "cancelled" ? "stop" : state} />`}
          ${state === "failed" && said ? trouble(said) : state === "new" ? "" : t(`state.${now && state === "waiting" ? "reading" : state}`)}</span>
      </span>
    </button>
  `;
}

/** @param {{page: import("./store.js").Page, pictures: Props["pictures"], ready: boolean}} props */
function Thumb({ page, pictures, ready }) {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    if (page.thumb !== null || !ready || !place.current) return;
    const seen = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && pictures.wantThumb(page), { rootMargin: "200px" });
    seen.observe(place.current);
    return () => seen.disconnect();
  }, [page.thumb, ready]);
  return html`<span class="thumb" ref=${place}>${page.thumb === null ? html`<${Icon} name="document" />` : html`<img src=${page.thumb} alt="" draggable=${false} />`}</span>`;
}

/** @param {import("./store.js").Page} page @param {import("./store.js").Doc | null} doc @returns {"new" | "waiting" | "done" | "failed" | "cancelled"} */
function stateOf(page, doc) {
  if (doc?.error) return "failed";
  return page.readings.at(-1)?.state ?? "new";
}
