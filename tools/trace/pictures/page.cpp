// SPDX-License-Identifier: Apache-2.0
// The page's data and its script.
#include "tools/trace/pictures/page.hpp"

#include "tools/trace/check.hpp"
#include "tools/trace/report.hpp"
#include "tools/trace/stats.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <map>
#include <string_view>

namespace kvferry::tracing {

namespace {

using nlohmann::json;

constexpr std::size_t slowest_shown = 20;

/// Rows of numbers, so that a large run stays a small page: lane, time, instant, message, rid,
/// cause, effect, number.
json data_of(const flow& from) {
    json lanes = json::array();
    for (const auto& x : from.lanes)
        lanes.push_back({{"text", x.text()}, {"id", x.actor_id}});
    std::map<std::string_view, std::size_t> numbers;
    json names = json::array();
    json steps = json::array();
    const auto index = [](std::size_t x) {
        return x == no_step ? -1 : static_cast<std::int64_t>(x);
    };
    for (const auto& x : from.steps) {
        const auto [place, fresh] = numbers.try_emplace(x.message, names.size());
        if (fresh)
            names.push_back(std::string{x.message});
        // A rid may be too large for a JavaScript number.
        steps.push_back({x.lane, x.time_ns, static_cast<int>(x.what), place->second,
                         std::to_string(x.rid), index(x.cause), index(x.effect), x.number});
    }
    const auto sums = statistics_of(from);
    auto statistics = json_of(sums, slowest_shown);
    for (std::size_t i = 0; i < statistics["slowest"].size(); ++i) {
        auto& request = statistics["slowest"][i];
        request["rid"] = std::to_string(request["rid"].get<std::uint64_t>());
        request["path"] = sums.requests[i].path;
    }
    return {{"lanes", std::move(lanes)},
            {"names", std::move(names)},
            {"steps", std::move(steps)},
            {"statistics", std::move(statistics)},
            {"check", json_of(check(from))}};
}

constexpr const char* head = R"page(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>kvferry trace</title>
<style>
body{margin:0;font:13px system-ui,sans-serif;color:#222;background:#fff}
header{padding:8px 12px;background:#f4f5f7;border-bottom:1px solid #ccc;display:flex;gap:12px;align-items:center;flex-wrap:wrap}
input{font:inherit;width:14em}button{font:inherit}
#view{position:relative;max-height:72vh;overflow:hidden scroll;border-bottom:1px solid #ccc}canvas{display:block}#canvas{cursor:grab}
.mark{display:inline-block;width:18px;height:0;border-top:3px solid;margin:0 4px 3px 10px}
#tip{position:absolute;background:#fffff0;border:1px solid #999;padding:4px 6px;pointer-events:none;display:none;white-space:pre;z-index:2}
.panels{display:flex;flex-wrap:wrap;gap:24px;padding:12px}table{border-collapse:collapse}td,th{padding:1px 8px;text-align:right}
td:first-child,th:first-child,td:nth-child(2),th:nth-child(2){text-align:left}.bad{color:#b00020}.link{cursor:pointer}.link:hover{background:#eef2fb}
</style></head><body>
<header><b>kvferry trace</b><label>rid <input id="rid" placeholder="all; type a rid"></label>
<button id="in">zoom in</button><button id="out">zoom out</button><button id="all">whole run</button>
<span id="found"></span><span id="range"></span><span id="verdict"></span>
<span><i class="mark" style="color:#5472a8"></i>message<i class="mark" style="color:#c2185b"></i>to another rank<i class="mark" style="color:#e8a33d"></i>operation<i class="mark" style="color:#000"></i>critical path of the rid</span></header>
<div id="view"><canvas id="canvas"></canvas><div id="tip"></div></div>
<div class="panels"><div><h3>Slowest requests</h3><table id="slow"></table></div>
<div><h3>Mailbox wait</h3><canvas id="waits" width="420" height="160"></canvas></div>
<div><h3>Work of handlers</h3><canvas id="works" width="420" height="160"></canvas></div>
<div><h3>Messages</h3><table id="messages"></table></div></div>
<script id="data" type="application/json">)page";

constexpr const char* tail = R"page(</script><script>
'use strict';
const D=JSON.parse(document.getElementById('data').textContent),S=D.steps;
const [LANE,TIME,WHAT,NAME,RID,CAUSE,EFFECT,NUMBER]=[0,1,2,3,4,5,6,7];
const words=['sends','begins to handle','is done with','asks','has the answer to','begins','ends','sends to another rank','has from another rank','ended'];
const canvas=document.getElementById('canvas'),g=canvas.getContext('2d'),view=document.getElementById('view'),tip=document.getElementById('tip'),box=document.getElementById('rid');
const end=S.length?Math.max(1,S[S.length-1][TIME]):1,left=230,row=24,top_=22;
let from=0,to=end*1.01,rid='',lanes=[],place=new Map(),shown=[];
function span(ns){return ns<1e4?ns.toFixed(0)+' ns':ns<1e7?(ns/1e3).toFixed(1)+' us':(ns/1e6).toFixed(1)+' ms'}
function instant(t,step){const [by,unit]=to<1e4?[1,'ns']:to<1e7?[1e3,'us']:[1e6,'ms'];return (t/by).toFixed(Math.max(0,Math.ceil(-Math.log10(step/by)-1e-9)))+' '+unit}
function select(){rid=box.value.trim();shown=[];S.forEach((s,i)=>{if(!rid||s[RID]===rid)shown.push(i)});
 // For one request every actor has a row. For all requests, actors of the same name and rank share
 // one.
 const used=[...new Set(shown.map(i=>S[i][LANE]))].sort((a,b)=>D.lanes[a].text<D.lanes[b].text?-1:1);lanes=[];place=new Map();
 for(const l of used){const t=D.lanes[l].text,n=lanes.length;if(!rid&&n&&lanes[n-1].text===t)lanes[n-1].count++;else lanes.push({text:t,id:D.lanes[l].id,count:1});place.set(l,lanes.length-1)}
 document.getElementById('found').textContent=shown.length+' events of '+used.length+' actors';
 if(rid&&shown.length){const a=S[shown[0]][TIME],b=S[shown[shown.length-1]][TIME],m=(b-a)*.03+100;from=a-m;to=b+m}draw()}
function X(t){return left+(t-from)/(to-from)*(canvas.width-left-10)}
function Y(l){return top_+place.get(l)*row+row/2}
function colour(n){return 'hsl('+(n*67%360)+' 55% 62%)'}
function draw(){canvas.width=view.clientWidth;canvas.height=top_+Math.max(1,lanes.length)*row+6;g.font='12px system-ui,sans-serif';g.textBaseline='middle';
 lanes.forEach((l,i)=>{const y=top_+i*row;g.fillStyle=i%2?'#fafafa':'#f0f2f5';g.fillRect(0,y,canvas.width,row);g.fillStyle='#222';g.fillText(l.text+(l.count>1?' x '+l.count:' '+l.id),6,y+row/2)});
 g.save();g.beginPath();g.rect(left,0,canvas.width-left,canvas.height);g.clip();
 const step=Math.pow(10,Math.floor(Math.log10((to-from)/4)));
 g.fillStyle='#d5d8de';for(let t=Math.ceil(from/step)*step;t<=to;t+=step)g.fillRect(X(t),0,1,canvas.height);
 const last=[];
 for(const i of shown){const s=S[i],w=s[WHAT];if(w!==1&&w!==5)continue;const e=s[EFFECT]>=0?S[s[EFFECT]][TIME]:s[TIME];if(e<from||s[TIME]>to)continue;
  const a=X(s[TIME]),b=Math.max(a+1.5,X(e)),r=2*place.get(s[LANE])+(w===5);if(b<last[r]+.5)continue;last[r]=b; // behind what is drawn
  g.fillStyle=w===5?'#e8a33d':colour(s[NAME]);g.fillRect(a,Y(s[LANE])-(w===5?row/2-2:7),b-a,w===5?5:14);
  if(b-a>60){g.fillStyle='#000';g.save();g.beginPath();g.rect(a,0,b-a,canvas.height);g.clip();g.fillText(D.names[s[NAME]],a+3,Y(s[LANE]));g.restore()}}
 if(rid||shown.length<20000||(to-from)<end/20){g.lineWidth=1;for(const i of shown){const s=S[i];if(s[CAUSE]<0||(s[WHAT]!==1&&s[WHAT]!==8))continue;const c=S[s[CAUSE]];
  if(!place.has(c[LANE])||s[TIME]<from||c[TIME]>to)continue;g.strokeStyle=s[WHAT]===8?'#c2185b':'#5472a8';const x=X(s[TIME]),y=Y(s[LANE]);g.beginPath();g.moveTo(X(c[TIME]),Y(c[LANE]));g.lineTo(x,y);
  const d=Math.atan2(y-Y(c[LANE]),x-X(c[TIME]));g.lineTo(x-6*Math.cos(d-.4),y-6*Math.sin(d-.4));g.moveTo(x,y);g.lineTo(x-6*Math.cos(d+.4),y-6*Math.sin(d+.4));g.stroke()}}
 const slow=D.statistics.slowest.find(r=>r.rid===rid);if(slow){g.strokeStyle='#000';g.lineWidth=2.5;g.beginPath();let begun=false;
  for(const i of slow.path){const s=S[i];if(!place.has(s[LANE]))continue;const x=X(s[TIME]),y=Y(s[LANE]);if(begun)g.lineTo(x,y);else g.moveTo(x,y);begun=true}g.stroke();g.lineWidth=1}
 const head=view.scrollTop;g.fillStyle='#fff';g.fillRect(left,head,canvas.width,top_-2);g.fillStyle='#555';
 for(let t=Math.ceil(from/step)*step;t<=to;t+=step){const n=Math.round(t/step);if(n%5===0||(to-from)/step<12)g.fillText(instant(t,step),X(t)+3,head+10)}
 g.restore();document.getElementById('range').textContent=span(Math.max(0,from))+' to '+span(to)}
function zoom(by,at){const t=at===undefined?(from+to)/2:from+(at-left)/(canvas.width-left-10)*(to-from);const w=Math.max(20,(to-from)*by);const r=(t-from)/(to-from);from=t-r*w;to=from+w;draw()}
document.getElementById('in').onclick=()=>zoom(.5);document.getElementById('out').onclick=()=>zoom(2);
document.getElementById('all').onclick=()=>{from=0;to=end*1.01;draw()};box.oninput=select;onresize=view.onscroll=draw;
canvas.addEventListener('wheel',e=>{e.preventDefault();if(e.shiftKey)view.scrollTop+=e.deltaY||e.deltaX;else zoom(e.deltaY<0?.8:1.25,e.offsetX)},{passive:false});
let drag=null;canvas.onmousedown=e=>drag=e.offsetX;onmouseup=()=>drag=null;
canvas.onmousemove=e=>{if(drag!==null){const d=(drag-e.offsetX)/(canvas.width-left-10)*(to-from);from+=d;to+=d;drag=e.offsetX;draw();return}
 const l=Math.floor((e.offsetY-top_)/row);let best=-1,gap=8;
 for(const i of shown){const s=S[i];if(place.get(s[LANE])!==l)continue;const b=s[EFFECT]>=0&&(s[WHAT]===1||s[WHAT]===5)?X(S[s[EFFECT]][TIME]):X(s[TIME]);const d=Math.max(X(s[TIME])-e.offsetX,e.offsetX-b,0);if(d<=gap&&(d<gap||s[WHAT]===1)){gap=d;best=i}}
 if(best<0){tip.style.display='none';return}const s=S[best];let t=D.lanes[s[LANE]].text+' '+words[s[WHAT]]+' '+D.names[s[NAME]]+'\nat '+span(s[TIME])+(s[RID]!=='0'?'\nrid '+s[RID]:'');
 if(s[CAUSE]>=0)t+='\n'+span(s[TIME]-S[s[CAUSE]][TIME])+' after '+D.lanes[S[s[CAUSE]][LANE]].text;
 if(s[EFFECT]>=0&&s[WHAT]===1)t+='\nwork '+span(S[s[EFFECT]][TIME]-s[TIME]);if(s[WHAT]===5||s[WHAT]===6)t+='\n'+s[NUMBER]+' bytes';
 tip.textContent=t;tip.style.display='block';tip.style.left=Math.min(e.offsetX+14,canvas.width-330)+'px';tip.style.top=(e.offsetY+14)+'px'};
function histogram(id,values){const c=document.getElementById(id),h=c.getContext('2d'),bins=new Array(28).fill(0);
 for(const v of values)bins[Math.min(27,Math.max(0,Math.floor(Math.log2(Math.max(1,v)))))]++;const m=Math.max(1,...bins);h.font='10px sans-serif';
 bins.forEach((n,i)=>{h.fillStyle='#5472a8';const y=n/m*125;h.fillRect(i*15,135-y,13,y);if(i%4===0){h.fillStyle='#333';h.fillText(span(2**i),i*15,150)}});h.fillStyle='#333';h.fillText('most: '+m,340,10)}
const waits=[],works=[];for(const s of S){if(s[WHAT]!==1)continue;if(s[CAUSE]>=0)waits.push(s[TIME]-S[s[CAUSE]][TIME]);if(s[EFFECT]>=0)works.push(S[s[EFFECT]][TIME]-s[TIME])}
histogram('waits',waits);histogram('works',works);
function table(id,head,rows){const t=document.getElementById(id);for(const r of [head,...rows]){const tr=t.insertRow();for(const v of r){const c=tr.insertCell();c.textContent=v;if(r===head)c.style.fontWeight='bold'}}}
table('slow',['rid','time','bytes','most of it'],D.statistics.slowest.map(r=>[r.rid,span(r.total_ns),r.bytes,r.stages.slice(0,3).map(s=>s.name+' '+span(s.ns)).join(', ')]));
for(const tr of [...document.getElementById('slow').rows].slice(1)){tr.className='link';tr.onclick=()=>{box.value=tr.cells[0].textContent;select();scrollTo(0,0)}}
table('messages',['actor','message','count','wait p50','wait p99','work p50','work p99','bytes'],D.statistics.messages.map(m=>[m.actor,m.message,m.count,span(m.mailbox_wait.p50_ns),span(m.mailbox_wait.p99_ns),span(m.work.p50_ns),span(m.work.p99_ns),m.bytes]));
const v=document.getElementById('verdict');v.textContent=D.check.ok?'check: nothing is wrong':'check: '+D.check.findings.length+' findings, '+D.check.lost_events+' events lost';if(!D.check.ok)v.className='bad';
box.value=decodeURIComponent(location.hash.slice(1));select();document.title='kvferry trace: '+S.length+' events';
</script></body></html>
)page";

/// A "</script>" in a text must not end the data.
std::string inside_script(std::string text) {
    for (std::size_t at = 0; (at = text.find('<', at)) != text.npos;)
        text.replace(at, 1, "\\u003c");
    return text;
}

} // namespace

std::string page_of(const flow& from) {
    return head + inside_script(data_of(from).dump(-1, ' ', false, json::error_handler_t::replace))
           + tail;
}

} // namespace kvferry::tracing
