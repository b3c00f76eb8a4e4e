# Records what silero_vad.onnx gives, call by call: record.py MODEL FOLDER (onnxruntime 1.32.0, numpy 2.2.6).
import sys

import numpy as np
import onnxruntime as ort

out=sys.argv[2]
s=ort.InferenceSession(sys.argv[1],providers=['CPUExecutionProvider'])
rng=np.random.default_rng(7)
for sr,n in ((16000,576),(8000,288)):
    calls,B=6,3
    t=np.arange(calls*n)/sr
    # A buzz with formants that comes and goes, noise, silence.
    f0=120*(1+.1*np.sin(2*np.pi*3*t)); ph=2*np.pi*np.cumsum(f0)/sr
    buzz=sum(np.sin(k*ph)/k*np.exp(-((k*120-700)/500)**2) for k in range(1,20))
    x=np.stack([.3*buzz*(np.sin(2*np.pi*4*t)>-.5), .05*rng.standard_normal(t.size), 1e-3*rng.standard_normal(t.size)])
    x=x.reshape(B,calls,n).transpose(1,0,2).astype(np.float32)
    st=np.zeros((2,B,128),np.float32); ys=[];sts=[]
    for c in range(calls):
        y,st=s.run(['output','stateN'],{'input':x[c],'state':st,'sr':np.array(sr,np.int64)})
        ys.append(y);sts.append(st)
    np.save(f'{out}/{sr}.x.npy',x);np.save(f'{out}/{sr}.output.npy',np.stack(ys));np.save(f'{out}/{sr}.state.npy',np.stack(sts))
    print(sr,np.stack(ys)[...,0].round(4).tolist())
