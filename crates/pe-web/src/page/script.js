'use strict'
const $=(q,e=document)=>e.querySelector(q),$$=(q,e=document)=>[...e.querySelectorAll(q)]
const root=document.body.dataset.root,live=$('#live'),pause=$('#pause'),said=$('#said')
let paused=false,busy=false,again=false,lost=0,last=0,spoke=0,inside=false
const show=(cls,text)=>{live.innerHTML='';const s=document.createElement('span');s.className='st '+cls;s.textContent=text;live.append(s)}
const say=text=>{const t=Date.now();if(t-spoke>1e4){spoke=t;said.textContent=text}}
const used=e=>e.matches(':hover')||e.contains(document.activeElement)||(e.contains(getSelection().anchorNode)&&!getSelection().isCollapsed)
const rows=e=>$$('tr[data-id]',e).map(r=>r.dataset.id).join()
function put(old,now){
 if(old.innerHTML===now.innerHTML)return
 if(old.id==='list'){
  if(rows(old)===rows(now)){
   const a=$$('tr[data-id]',old),b=$$('tr[data-id]',now)
   a.forEach((r,i)=>[...r.cells].forEach((c,k)=>{const n=b[i].cells[k];if(c.innerHTML!==n.innerHTML){if(c.contains(document.activeElement))return;c.innerHTML=n.innerHTML}}))
   const p=$('.page',old),q=$('.page',now);if(p&&q&&p.innerHTML!==q.innerHTML&&!used(p))p.innerHTML=q.innerHTML
   return}
  if(used(old)){if(!$('#stale')){const a=document.createElement('a');a.id='stale';a.href=location.href;a.textContent='The order has changed: show it';a.onclick=e=>{e.preventDefault();old.innerHTML=now.innerHTML};old.prepend(a)}return}
 }else if(old.id==='read'&&at>=0)return
 else if(old.contains(document.activeElement)||used(old)&&old.id==='graph')return
 const open=$$('details',old).map(d=>d.open)
 old.innerHTML=now.innerHTML
 $$('details',old).forEach((d,i)=>d.open=!!open[i])
 if(old.id==='graph'){mark();if(at>=0)tell(at)}
}
async function refresh(url){
 if(busy){again=true;return}
 busy=true;again=false;last=Date.now()
 try{
  const r=await fetch(url||location.href,{headers:{accept:'text/html'},credentials:'same-origin'})
  if(!r.ok)throw 0
  const page=new DOMParser().parseFromString(await r.text(),'text/html')
  if(page.body.dataset.started!==document.body.dataset.started){document.body.dataset.started=page.body.dataset.started;say('The agent was started again')}
  $$('[data-live]').forEach(e=>{const n=page.getElementById(e.id);if(n)put(e,n)})
  document.title=page.title
  if(lost)say('Connected again');lost=0
  if(!paused)show('u','live')
 }catch(e){gone()}
 busy=false
 if(again)soon()
}
function gone(){lost=lost||Date.now();show('d','no connection for '+Math.round((Date.now()-lost)/1e3)+' s');if(Date.now()-lost<1500)say('No connection to the agent')}
let timer=0
function soon(){if(paused||document.hidden||timer)return;timer=setTimeout(()=>{timer=0;refresh()},Math.max(0,1000-(Date.now()-last)))}
let source
function connect(){
 source&&source.close()
 source=new EventSource(root+'api/v1/events')
 source.onopen=()=>{soon()}
 source.onmessage=soon
 source.onerror=()=>{gone();if(source.readyState===2){source.close();source=null}}
}
setInterval(()=>{
 if(lost)gone()
 if(!source&&!paused&&!document.hidden)connect()
 if(!paused&&!document.hidden&&Date.now()-last>1e4)soon()
},5000)
setInterval(()=>{
 const b=$('#age b');if(b&&!paused){const s=Math.max(0,Math.round(Date.now()/1e3-b.dataset.since));if(s<60)b.textContent=s+' s'}
},1000)
pause.hidden=false
pause.onclick=()=>{paused=!paused;pause.setAttribute('aria-pressed',paused);pause.textContent=paused?'Resume':'Pause';show(paused?'w':'u',paused?'paused':'live');if(!paused)soon()}
document.addEventListener('visibilitychange',()=>{if(!document.hidden)soon()})
const q=$('#q')
if(q){
 const form=q.form;let wait=0
 const go=()=>{const p=new URLSearchParams(new FormData(form));[...p].forEach(([k,v])=>{if(!v||k==='sort'&&v==='worst')p.delete(k)})
  for(const k of ['reason','label','rows','sort','groups']){const v=new URLSearchParams(location.search).get(k);if(v&&!p.has(k))p.set(k,v)}
  const s=p.toString();history.replaceState(null,'',location.pathname+(s?'?'+s:''));$('#stale')?.remove()
  fetchList()}
 const fetchList=async()=>{try{const r=await fetch(location.href,{credentials:'same-origin'});const page=new DOMParser().parseFromString(await r.text(),'text/html');for(const id of ['list','states']){const n=page.getElementById(id);if(n)$('#'+id).innerHTML=n.innerHTML}
  const c=$('#list .page span');if(c){spoke=0;say(c.textContent+' devices')}}catch(e){gone()}}
 q.addEventListener('input',()=>{clearTimeout(wait);wait=setTimeout(go,200)})
 form.addEventListener('submit',e=>{e.preventDefault();clearTimeout(wait);go()})
 $$('select',form).forEach(s=>s.addEventListener('change',go))
}
$$('.copy').forEach(b=>{if(!navigator.clipboard)return;b.hidden=false;b.onclick=()=>{navigator.clipboard.writeText(b.previousElementSibling.textContent);b.textContent='Copied';setTimeout(()=>b.textContent='Copy',1500)}})
let at=-1
function mark(){
 const r=$$('#values tbody tr');if(!r.length)return
 const steps=$('#steps');if(steps)steps.hidden=false
 $$('.pl').forEach(p=>p.onpointermove=e=>{const b=p.getBoundingClientRect();tell(Math.floor((e.clientX-b.left)/b.width*r.length))})
}
function tell(i){
 const r=$$('#values tbody tr');at=Math.max(0,Math.min(r.length-1,i))
 const c=[...r[r.length-1-at].cells].map(x=>x.textContent.trim())
 $('#read').textContent=c.length<7?c[0]+': '+c[1]:`${c[0]}: median ${c[4]} ms, ${c[3]==='–'?'':`middle half ${c[3]} to ${c[5]}, `}${c[2]} to ${c[6]}, ${c[1]} % lost`
 $$('.pl').forEach(s=>{let l=$('.cur',s);if(!l){l=document.createElementNS('http://www.w3.org/2000/svg','line');l.setAttribute('class','cur');s.append(l)}
  const x=(at+.5)/r.length*100+'%';l.setAttribute('x1',x);l.setAttribute('x2',x);l.setAttribute('y1',12);l.setAttribute('y2',322)})
}
$$('#steps button').forEach(b=>b.onclick=()=>tell(at<0?1e9:at+ +b.value))
mark();connect()
