"""The report page's look: one style sheet, light and dark, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib

CSS = """
:root{color-scheme:light dark;--ink:#1b2733;--soft:#5a6b7b;--faint:#8494a3;--line:#e1e7ec;--paper:#fff;--ground:#f5f7f9;
--train:#2f6f9f;--validation:#e0a63a;--test:#5aa786;--bar:#4a86b5;--good:#1f7a4d;--good-ground:#e3f4ea;--bad:#b3302a;
--bad-ground:#fbe7e5;--warn:#8a5a00;--warn-ground:#fdf1d8}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9fb0bf;--faint:#7d8d9c;--line:#2b3844;--paper:#16202a;
--ground:#0f1720;--train:#5b9bd0;--validation:#e0b050;--test:#6fc0a0;--bar:#5b9bd0;--good:#7fd6a6;--good-ground:#153527;
--bad:#ff9c94;--bad-ground:#431d1b;--warn:#f0c36a;--warn-ground:#3d2f10}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;-webkit-text-size-adjust:100%}
main,header>div,footer{max-width:1080px;margin:0 auto;padding:0 24px}
header{background:var(--paper);border-bottom:1px solid var(--line);padding:28px 0 20px}
h1{font-size:26px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:18px;margin:0 0 4px;letter-spacing:-.005em}
h3{font-size:14px;margin:0;font-weight:600;overflow-wrap:anywhere}
p{margin:0 0 12px}.lead,.hint{color:var(--soft)}.hint{font-size:13.5px;max-width:75ch}
section{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:22px 24px 24px;margin:20px 0}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;margin-top:14px;font-size:14px}a{color:var(--train)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:16px;margin:20px 0 0}
.figure b{display:block;font-size:24px;line-height:1.2;font-weight:600;font-variant-numeric:tabular-nums}
.figure span{color:var(--soft);font-size:13.5px}
.chip{display:inline-block;border-radius:999px;padding:1px 10px;font-size:13px;font-weight:600;white-space:nowrap}
.good{background:var(--good-ground);color:var(--good)}.bad{background:var(--bad-ground);color:var(--bad)}
.warn{background:var(--warn-ground);color:var(--warn)}.plain{background:var(--ground);color:var(--soft)}
.scroll{overflow-x:auto}.scroll>svg{min-width:600px}.scroll+p{margin-top:10px}
table{border-collapse:collapse;width:100%;font-size:14px;margin-top:10px}
caption{text-align:left;color:var(--soft);font-size:13.5px;padding-bottom:4px}
th,td{text-align:left;padding:6px 14px 6px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--soft);font-size:13px;white-space:nowrap}tr:last-child>*{border-bottom:0}
td{overflow-wrap:break-word;min-width:84px;max-width:420px}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tbody th{color:var(--ink);font-size:14px;white-space:normal;overflow-wrap:break-word;min-width:110px;max-width:340px}
td:last-child:not(.n){min-width:150px}td.n+td:not(.n),th.n+th:not(.n){padding-left:14px}
code{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(240px,1fr));gap:14px;margin-top:14px}
.card{border:1px solid var(--line);border-radius:8px;padding:14px 16px;min-width:0}
.card .kind{color:var(--faint);font-size:12.5px}.card dl{display:grid;grid-template-columns:auto 1fr;gap:0 12px;
margin:8px 0 0;font-size:13px}dt{color:var(--soft)}dd{margin:0;text-align:right;font-variant-numeric:tabular-nums;
overflow-wrap:anywhere}
svg{display:block;width:100%;height:auto}svg text{fill:var(--soft);font-size:11px;font-family:inherit}
.f-bar{fill:var(--bar)}.f-train{fill:var(--train)}.f-validation{fill:var(--validation)}.f-test{fill:var(--test)}
.f-ground{fill:var(--ground)}.f-bad{fill:var(--bad)}.s-axis{stroke:var(--line)}.s-bound{stroke:var(--bad);
stroke-dasharray:3 3}.s-line{fill:none;stroke:var(--bar);stroke-width:1.5}svg text.strong{fill:var(--ink)}
.legend{display:flex;gap:16px;font-size:13px;color:var(--soft);margin:6px 0 10px;flex-wrap:wrap}
.legend i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:6px}
.k-train{background:var(--train)}.k-validation{background:var(--validation)}.k-test{background:var(--test)}
.bars{display:grid;grid-template-columns:minmax(60px,max-content) 1fr max-content;gap:3px 10px;font-size:13px;
align-items:center;margin-top:8px}.bars svg{height:10px}
.bars span:nth-child(3n){text-align:right;font-variant-numeric:tabular-nums;
color:var(--soft)}.bars span:nth-child(3n+1){overflow:hidden;text-overflow:ellipsis;white-space:nowrap;max-width:180px}
.tiles{display:flex;flex-wrap:wrap;gap:6px;margin:8px 0}.tiles img{width:56px;height:56px;object-fit:contain;
image-rendering:pixelated;background:var(--ground);border-radius:4px;border:1px solid var(--line)}
.classes{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(460px,100%),1fr));gap:6px 28px;margin-top:14px}
.class{display:grid;grid-template-columns:80px 1fr;gap:0 12px;align-items:center;border-bottom:1px solid var(--line)}
ul{margin:8px 0 0;padding-left:20px}li{margin:4px 0}td ul{list-style:none;margin:0;padding:0}td li{margin:0 0 2px}
footer{color:var(--faint);font-size:13px;padding-bottom:36px}
@media (max-width:560px){main,header>div,footer{padding:0 14px}section{padding:16px}.class{grid-template-columns:1fr}}
@media print{body,section,header{background:#fff}section{break-inside:avoid}nav{display:none}}
""".replace("\n", "")

_DIGEST = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()
POLICY = f"default-src 'none'; img-src data:; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'"
"""The page's own content security policy: this style sheet, images within the page, and nothing else."""
