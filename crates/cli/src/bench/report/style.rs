//! The looks of a report. Colours are named once, for light and for dark; print is light.

/// Colours, and how charts look: for pages and pictures.
pub(super) const CHARTS: &str = "\
:root{--paper:#fff;--card:#fff;--ink:#1c2733;--soft:#5b6875;--line:#dde3e9;--rate:#0b62b8;\
--time:#b4540a;--bad:#b3261e}
@media screen and (prefers-color-scheme:dark){:root{--paper:#10151b;--card:#171e26;--ink:#e6ebf0;\
--soft:#95a2af;--line:#2b3540;--rate:#5aaef5;--time:#f0a04b;--bad:#ff8a80}}
text{font:11px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:var(--soft);\
font-variant-numeric:tabular-nums}
text.h{font-size:12px;font-weight:600;fill:var(--ink)}
text.e{text-anchor:end}text.m{text-anchor:middle}
.grid{stroke:var(--line);stroke-width:1;fill:none;shape-rendering:crispEdges}
.rate{stroke:var(--rate);stroke-width:2;fill:none;stroke-linejoin:round}
.area{fill:var(--rate);opacity:.12;stroke:none}
.time{stroke:var(--time);stroke-width:2;fill:none;stroke-linejoin:round}
.thin{stroke-width:1.25;opacity:.6}
.bar{fill:var(--time)}.pale{fill:var(--time);opacity:.35}
.dot{fill:var(--card);stroke:var(--time);stroke-width:2}
";

/// How a page looks beside that.
pub(super) const PAGE: &str = "\
*{box-sizing:border-box}
html{color-scheme:light dark}
body{margin:0;background:var(--paper);color:var(--ink);\
font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}
main{max-width:1080px;margin:0 auto;padding:36px 24px 48px}
h1{font-size:26px;line-height:1.25;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:18px;margin:0}
p{margin:0}.soft{color:var(--soft)}.bad{color:var(--bad);font-weight:600;margin-top:8px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 20px;margin:20px 0 28px}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;margin-bottom:28px}
th,td{text-align:right;padding:6px 0 6px 14px;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-size:13px;font-weight:600;color:var(--soft)}
th:first-child,td:first-child{text-align:left;padding-left:0;white-space:normal}
td a{color:inherit;text-decoration:none;font-weight:600}
td small{color:var(--soft);font-size:13px}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:20px 22px;\
margin-top:18px;break-inside:avoid}
.params{font-size:13px;color:var(--soft);margin-top:2px}
.figures{display:flex;flex-wrap:wrap;gap:4px 34px;margin:14px 0 10px}
.figures div{min-width:70px}
.figures b{display:block;font-size:20px;line-height:1.3;font-weight:650;\
font-variant-numeric:tabular-nums}
.figures span{font-size:12px;color:var(--soft)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:14px}
svg{display:block;width:100%;height:auto}
footer{margin-top:26px;font-size:13px;color:var(--soft)}
@media print{main{max-width:none;padding:0}section{border-color:#bbb}body{font-size:12px}}
";
