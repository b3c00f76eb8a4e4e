//! A Vulkan driver's compiler, asked for its statistics and its machine code: VK_KHR_pipeline_executable_properties.

use ash::{Entry, vk};
use std::error::Error;
use std::ffi::{CStr, CString};

/// An instance with one device, the first that the loader offers. Never destroyed: the process ends with it.
pub struct Driver {
    /// The device's name, the driver's and its version.
    pub name: String,
    device: ash::Device,
    executables: ash::khr::pipeline_executable_properties::Device,
    // Keeps the loader's library open.
    _entry: Entry,
}

/// What the compiler says of one compute pipeline.
pub struct Compiled {
    /// `(name, value)` as the driver calls them.
    pub statistics: Vec<(String, u64)>,
    /// The machine code, if the driver gives it.
    pub assembly: String,
}

impl Compiled {
    /// A statistic by name, where the driver has it.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.statistics.iter().find(|(n, _)| n == name).map(|s| s.1)
    }
}

impl Driver {
    /// The driver that `VK_DRIVER_FILES` (and for RADV `RADV_FORCE_FAMILY`) names.
    pub fn open() -> Result<Self, Box<dyn Error>> {
        let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_2);
        let extensions = [ash::khr::pipeline_executable_properties::NAME.as_ptr()];
        let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
        let mut statistics =
            vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
        // What wgpu asks for where shaders use f16.
        let mut v12 = vk::PhysicalDeviceVulkan12Features::default().shader_float16(true).vulkan_memory_model(true);
        let mut v11 = vk::PhysicalDeviceVulkan11Features::default().storage_buffer16_bit_access(true);
        let info = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .enabled_extension_names(&extensions)
            .push_next(&mut statistics)
            .push_next(&mut v12)
            .push_next(&mut v11);
        // SAFETY: every structure outlives the call that reads it, and the loader stays open as long as `Self`.
        unsafe {
            let entry = Entry::load()?;
            let instance = entry.create_instance(&vk::InstanceCreateInfo::default().application_info(&app), None)?;
            let physical = *instance.enumerate_physical_devices()?.first().ok_or("the driver has no device")?;
            let mut about = vk::PhysicalDeviceDriverProperties::default();
            let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut about);
            instance.get_physical_device_properties2(physical, &mut properties);
            let device_name = properties.properties.device_name_as_c_str()?.to_string_lossy().into_owned();
            let name = format!("{device_name}, {}", about.driver_info_as_c_str()?.to_string_lossy());
            let device = instance.create_device(physical, &info, None)?;
            let executables = ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
            Ok(Self { name, device, executables, _entry: entry })
        }
    }

    /// Compiles a module's compute entry point `main`, whose bindings (number, kind) are all in group 0.
    pub fn compile(&self, words: &[u32], bindings: &[(u32, vk::DescriptorType)]) -> Result<Compiled, Box<dyn Error>> {
        let entries: Vec<_> = bindings
            .iter()
            .map(|&(binding, kind)| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding)
                    .descriptor_type(kind)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let main = CString::new("main")?;
        let flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
            | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
        // SAFETY: the words are naga's valid SPIR-V with these bindings and this entry point; structures outlive their calls.
        unsafe {
            let module = self.device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(words), None)?;
            let set = vk::DescriptorSetLayoutCreateInfo::default().bindings(&entries);
            let sets = [self.device.create_descriptor_set_layout(&set, None)?];
            let layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = self.device.create_pipeline_layout(&layout, None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(&main);
            let info = vk::ComputePipelineCreateInfo::default().flags(flags).layout(layout).stage(stage);
            let made = self.device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            let pipeline = made.map_err(|(_, e)| e)?[0];
            let compiled = self.describe(pipeline)?;
            self.device.destroy_pipeline(pipeline, None);
            self.device.destroy_pipeline_layout(layout, None);
            self.device.destroy_descriptor_set_layout(sets[0], None);
            self.device.destroy_shader_module(module, None);
            Ok(compiled)
        }
    }

    /// What the driver says of a pipeline's one executable.
    ///
    /// # Safety
    /// The pipeline is this device's, and was made to be asked.
    unsafe fn describe(&self, pipeline: vk::Pipeline) -> Result<Compiled, Box<dyn Error>> {
        use vk::PipelineExecutableStatisticFormatKHR as Format;
        let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
        // SAFETY: as the caller promises; `value` is read as the format says, and buffers are as long as the driver asked.
        unsafe {
            let statistics = self.executables.get_pipeline_executable_statistics(&executable)?;
            let value = |s: &vk::PipelineExecutableStatisticKHR| match s.format {
                Format::FLOAT64 => s.value.f64 as u64,
                _ => s.value.u64,
            };
            let named = |s: &vk::PipelineExecutableStatisticKHR| {
                (CStr::from_ptr(s.name.as_ptr()).to_string_lossy().into_owned(), value(s))
            };
            let ask = self.executables.fp().get_pipeline_executable_internal_representations_khr;
            let mut count = 0;
            ask(self.device.handle(), &executable, &mut count, std::ptr::null_mut()).result()?;
            let mut texts = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            ask(self.device.handle(), &executable, &mut count, texts.as_mut_ptr()).result()?;
            let mut buffers: Vec<Vec<u8>> = texts.iter().map(|t| vec![0; t.data_size]).collect();
            for (text, buffer) in texts.iter_mut().zip(&mut buffers) {
                text.p_data = buffer.as_mut_ptr().cast();
            }
            ask(self.device.handle(), &executable, &mut count, texts.as_mut_ptr()).result()?;
            let assembly = texts
                .iter()
                .zip(&buffers)
                .find(|(text, _)| CStr::from_ptr(text.name.as_ptr()) == c"Assembly")
                .map_or(String::new(), |(_, buffer)| String::from_utf8_lossy(buffer).replace('\0', ""));
            Ok(Compiled { statistics: statistics.iter().map(named).collect(), assembly })
        }
    }
}
