//! Buffers that are mapped to be read: asked for at once, there when the device says so.

use super::device::Gpu;
use crate::error::Result;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Buffers that the device was asked to map. They are unmapped when it goes, answered or not: a future that nobody waits for any more
/// leaves nothing behind.
pub(super) struct Mapping<'a> {
    gpu: &'a Gpu,
    buffers: Vec<wgpu::Buffer>,
    answers: Answers,
}

impl<'a> Mapping<'a> {
    /// Asks for the first bytes of each; within [`Gpu::submit`] or [`Gpu::scoped`].
    pub fn new<'b>(gpu: &'a Gpu, parts: impl ExactSizeIterator<Item = (&'b wgpu::Buffer, u64)>) -> Self {
        let answers = Answers::wanted(parts.len());
        let mut buffers = Vec::with_capacity(parts.len());
        for (buffer, bytes) in parts {
            let answers = answers.clone();
            buffer.map_async(wgpu::MapMode::Read, ..bytes, move |result| {
                answers.give(result.err().map(|e| e.to_string()));
            });
            buffers.push(buffer.clone());
        }
        Self { gpu, buffers, answers }
    }

    /// Until all are mapped.
    pub async fn answered(&mut self) -> Result<()> {
        let failed = self.answers.all().await;
        self.gpu.settle().await?;
        self.gpu.check_lost()?;
        let Some(reason) = failed else { return Ok(()) };
        // It is refused at once; that the device is lost is told after what is under way.
        let done = Answers::wanted(1);
        let answer = done.clone();
        self.gpu.queue.on_submitted_work_done(move || answer.give(None));
        done.all().await;
        Err(self.gpu.unreadable(reason))
    }

    /// The first bytes of one of them, by its number.
    pub fn view(&self, n: usize, bytes: u64) -> Result<wgpu::BufferView> {
        self.buffers[n].get_mapped_range(..bytes).map_err(|e| self.gpu.unreadable(e.to_string()))
    }
}

impl Drop for Mapping<'_> {
    fn drop(&mut self) {
        // What could not be mapped is not.
        if self.answers.failed().is_none() {
            self.buffers.iter().for_each(wgpu::Buffer::unmap);
        }
    }
}

/// `len` words of a buffer from `first` on, by way of one made for them.
pub(super) async fn download(gpu: &Gpu, buffer: &wgpu::Buffer, first: usize, len: usize) -> Result<Vec<f32>> {
    let (what, at, size) = ("reading a buffer", 4 * first as u64, 4 * len as u64);
    if size == 0 {
        return Ok(Vec::new());
    }
    let mut mapping = gpu.scoped(what, || {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let label = Some("download");
        let to = gpu.device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false });
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(buffer, at, &to, 0, size);
        gpu.queue.submit([encoder.finish()]);
        Mapping::new(gpu, std::iter::once((&to, size)))
    })?;
    mapping.answered().await?;
    gpu.heard(what, || {
        let all = mapping.view(0, size).map(|view| bytemuck::pod_collect_to_vec(&view));
        drop(mapping);
        all
    })?
}

/// What a device will answer, and who is to be woken then.
#[derive(Clone)]
struct Answers(Arc<Mutex<State>>);

struct State {
    missing: usize,
    failed: Option<String>,
    waker: Option<Waker>,
}

impl Answers {
    /// So many.
    fn wanted(missing: usize) -> Self {
        Self(Arc::new(Mutex::new(State { missing, failed: None, waker: None })))
    }

    /// One of them: why it failed, if it did.
    fn give(&self, failed: Option<String>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.missing -= 1;
        state.failed = state.failed.take().or(failed);
        let waker = if state.missing == 0 { state.waker.take() } else { None };
        // Who is woken may ask at once.
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Why the first of those that failed did.
    fn failed(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failed.clone()
    }

    /// Until all are there.
    fn all(&self) -> All<'_> {
        All(self)
    }
}

struct All<'a>(&'a Answers);

impl Future for All<'_> {
    type Output = Option<String>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.missing == 0 {
            return Poll::Ready(state.failed.clone());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
