"""The style sheet of the page: that of reports, and what a page with forms has besides."""

from dgin_tf.inspection.report import STYLE as _REPORT_STYLE

STYLE = (
    _REPORT_STYLE
    + """
:root{color-scheme:light dark;--line:#dde3ea;--soft:#f4f6f8;--muted:#52606f;--link:#1f5fa8;--bar:#3d76b8;--mark:#e07b1a;
--good:#1d7a44;--bad:#b3372f;--chosen:#e8f0fa}
body{max-width:78rem;margin:0 auto 4rem;background:#fff}
header{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;align-items:baseline;padding:1rem 0 .6rem;border-bottom:1px solid var(--line)}
header strong{font-size:1.05rem}
h1{margin:1.2rem 0 .2rem}h2{margin-top:2rem}h3{margin:.2rem 0 .4rem}
a{color:var(--link)}
.muted{color:var(--muted)}.note{font-size:.92rem;color:var(--muted);margin:.2rem 0 .8rem}
.hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
:focus-visible{outline:3px solid var(--mark);outline-offset:2px;border-radius:2px}
form{display:flex;flex-wrap:wrap;gap:.5rem .9rem;align-items:end;margin:.8rem 0}
label{display:flex;flex-direction:column;font-size:.85rem;color:var(--muted);gap:.15rem}
label.wide{flex:1 1 18rem}
input,select,button{font:inherit;font-size:1rem;padding:.3rem .5rem;border:1px solid #9aa7b5;border-radius:4px;background:Canvas;
color:CanvasText;min-width:0;max-width:100%;box-sizing:border-box}
label.wide input{width:100%}input[type=number]{width:5.5rem}
button{background:var(--link);border-color:var(--link);color:#fff;cursor:pointer;padding:.3rem 1rem}
.users td,.users th{text-align:right}.users td:first-child,.users th:first-child{text-align:left}
nav.pages{display:flex;flex-wrap:wrap;gap:1rem;margin:.8rem 0}
.strip{display:block;width:100%;background:var(--soft);border-radius:4px;margin-top:.6rem}
.strip line{stroke-width:2;vector-effect:non-scaling-stroke}
.ends{display:flex;justify-content:space-between;font-size:.85rem;color:var(--muted);font-variant-numeric:tabular-nums}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;padding:0;margin:.5rem 0;list-style:none;font-size:.9rem}
.legend li{display:flex;align-items:center;gap:.4rem}
.swatch{width:.8rem;height:.8rem;border-radius:2px;background:var(--type)}
.days{list-style:none;padding:0;margin:0}
.days>li{display:flex;gap:.3rem .8rem;padding:.3rem 0;border-bottom:1px solid var(--line);max-width:none}
.days .date{flex:0 0 8.4rem;font-variant-numeric:tabular-nums;color:var(--muted);font-size:.9rem;padding-top:.12rem}
.events{display:flex;flex-wrap:wrap;gap:.3rem;padding:0;margin:0;list-style:none;min-width:0}
.events li{border-left:5px solid var(--type);background:var(--soft);border-radius:3px;padding:.05rem .5rem;font-size:.88rem;
overflow-wrap:anywhere;min-width:0}
.events li.unread{opacity:.55;border-left-style:dotted}
.events li.alike{box-shadow:inset 0 0 0 2px currentColor}
.t0{--type:#3d76b8;stroke:#3d76b8}.t1{--type:#e07b1a;stroke:#e07b1a}.t2{--type:#2f9e6e;stroke:#2f9e6e}
.t3{--type:#b8479c;stroke:#b8479c}.t4{--type:#8a6d1f;stroke:#8a6d1f}.t5{--type:#6b5bd2;stroke:#6b5bd2}
.t6{--type:#c2413b;stroke:#c2413b}.t7{--type:#6d7885;stroke:#6d7885}
details{margin:.4rem 0}summary{cursor:pointer;color:var(--link);padding:.2rem 0}
.models{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,28rem),1fr));gap:0 2.2rem;align-items:start}
.models>*{min-width:0}
.ranking{width:100%;max-width:46rem}
.ranking td,.ranking th{padding:.3rem .6rem .3rem 0;white-space:normal;vertical-align:middle}
.ranking td:first-child,.ranking th:first-child{text-align:right;width:1.8rem}
.ranking .item{text-align:left;overflow-wrap:anywhere;min-width:6rem}
.ranking small{color:var(--muted)}
.ranking .label{font-size:.8rem;padding:0 .45rem;border-radius:1rem;border:1px solid var(--line);color:var(--muted);white-space:nowrap}
.ranking .gauge{width:30%;min-width:3rem}
.ranking .number,.ranking .moved{white-space:nowrap;width:1%}
.ranking tr.chosen td{background:var(--chosen)}
.ranking tr.chosen td:first-child{box-shadow:inset 4px 0 0 var(--mark)}
.ranking svg{display:block;width:100%;height:.85rem;background:#eef1f4;border-radius:2px}
.ranking rect{fill:var(--bar)}.ranking tr.clicked rect{fill:var(--mark)}
.ranking .clicked .label{color:#a85508;border-color:var(--mark);font-weight:600}.up{color:var(--good)}.down{color:var(--bad)}
figure img{background:#fff;border-radius:4px}.scroll img.wide{min-width:44rem}
@media(max-width:40rem){body{padding:0 .8rem}.days>li{flex-direction:column}.days .date{flex-basis:auto}
.ranking td,.ranking th{padding-right:.4rem}.ranking .gauge{min-width:2.6rem;width:22%}.scroll img.wide{width:44rem}}
@media(prefers-color-scheme:dark){
:root{--line:#36414d;--soft:#222a33;--muted:#a3b0bd;--link:#7fb2ec;--bar:#5b93d3;--mark:#f0953f;--good:#5cc98c;--bad:#f08a83;--chosen:#26384c}
body{background:#161b21;color:#e3e8ee}h2{border-color:var(--line)}td,th{border-color:var(--line)}th,figcaption{color:var(--muted)}
.ranking svg{background:#2b343f}.ranking .clicked .label{color:#f0a95f}button{background:#2b6cb5;border-color:#2b6cb5}
pre{background:var(--soft)}
}
"""
)
