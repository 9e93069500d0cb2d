//! What the pages say, in English and in Chinese: one table, so that each phrase stands once. Pure.
//!
//! The code speaks English; `Lang::say` gives the phrase in the visitor's language. `{}` in a
//! phrase is the place of a number or a name.

use std::borrow::Cow;

/// A language that the pages know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lang {
    #[default]
    English,
    Chinese,
}

impl Lang {
    /// The better one of ours for this `Accept-Language` (RFC 9110, section 12.5.4); the earlier
    /// one if both are as welcome. Other languages give English.
    pub fn wanted(accept_language: &str) -> Lang {
        let mut best = (0.0, Lang::English);
        for range in accept_language.split(',') {
            let (tag, weight) = range.split_once(';').unwrap_or((range, "q=1"));
            let weight = weight.trim().trim_start_matches(['q', 'Q']).trim_start();
            let weight = weight.strip_prefix('=').and_then(|q| q.trim().parse::<f32>().ok());
            let weight = weight.filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0);
            let lang = match tag.trim().split('-').next().unwrap_or_default() {
                zh if zh.eq_ignore_ascii_case("zh") => Lang::Chinese,
                en if en.eq_ignore_ascii_case("en") || en == "*" => Lang::English,
                _ => continue,
            };
            if weight > best.0 {
                best = (weight, lang);
            }
        }
        best.1
    }

    /// As it stands in `<html lang>` and `Content-Language` (RFC 5646).
    pub fn tag(self) -> &'static str {
        self.say("en")
    }

    /// A phrase of the table in this language. One that is not there stays English.
    pub fn say(self, english: &'static str) -> &'static str {
        let said = self.find(english);
        debug_assert!(said.is_some(), "no Chinese for {english:?}");
        said.unwrap_or(english)
    }

    /// A phrase with its places filled, in their order.
    pub fn fill(self, english: &'static str, values: &[&str]) -> String {
        fill(self.say(english), values)
    }

    /// A phrase with a number in its first place, in the form for one or for several.
    pub fn count(self, n: u64, one: &'static str, several: &'static str) -> String {
        self.fill(if n == 1 { one } else { several }, &[&n.to_string()])
    }

    /// Sentences one behind the other.
    pub fn join(self, sentences: &[String]) -> String {
        sentences.join(if self == Lang::Chinese { "" } else { " " })
    }

    /// A sentence that is made already, such as an error's. One that is not known stays as it is.
    pub fn sentence(self, english: &str) -> Cow<'_, str> {
        if let Some(said) = self.find(english) {
            return Cow::Borrowed(said);
        }
        if self == Lang::English {
            return Cow::Owned(english.to_owned());
        }
        let filled = PHRASES.iter().find_map(|(phrase, chinese)| {
            let values = values_in(phrase, english)?;
            let said: Vec<&str> =
                values.into_iter().map(|value| self.find(value).unwrap_or(value)).collect();
            Some(fill(chinese, &said))
        });
        Cow::Owned(filled.unwrap_or_else(|| english.to_owned()))
    }

    /// A page that is written in English in this language: its texts, and the attributes that a
    /// visitor meets, where the table has them.
    pub fn page(self, html: &str) -> String {
        rewrite(html, |text| self.find(text))
    }

    fn find(self, english: &str) -> Option<&'static str> {
        let (english, chinese) = PHRASES.iter().find(|(phrase, _)| *phrase == english)?;
        Some(match self {
            Lang::English => english,
            Lang::Chinese => chinese,
        })
    }
}

/// What stands in the places of a phrase that begins with a word, in a sentence made of it.
fn values_in<'s>(phrase: &str, sentence: &'s str) -> Option<Vec<&'s str>> {
    let (before, behind) = phrase.split_once("{}").filter(|(before, _)| !before.is_empty())?;
    let mut rest = sentence.strip_prefix(before)?;
    let mut parts = behind.split("{}").peekable();
    let mut values = Vec::new();
    while let Some(part) = parts.next() {
        let at = match parts.peek() {
            Some(_) => rest.find(part)?,
            None => rest.strip_suffix(part)?.len(),
        };
        values.push(&rest[..at]);
        rest = &rest[at + part.len()..];
    }
    Some(values)
}

fn fill(phrase: &str, values: &[&str]) -> String {
    debug_assert_eq!(phrase.matches("{}").count(), values.len(), "{phrase:?}");
    let mut values = values.iter();
    let mut filled = String::with_capacity(phrase.len() + 16);
    for (n, part) in phrase.split("{}").enumerate() {
        if n > 0 {
            filled.push_str(values.next().copied().unwrap_or_default());
        }
        filled.push_str(part);
    }
    filled
}

/// Give each text and each spoken attribute of a page to `say`, and put in what it gives back.
/// Reads our own pages only: values stand in double quotes and hold no `>`.
fn rewrite(html: &str, mut say: impl FnMut(&str) -> Option<&'static str>) -> String {
    let mut out = String::with_capacity(html.len() * 5 / 4);
    let mut rest = html;
    while !rest.is_empty() {
        let end = match rest {
            comment if comment.starts_with("<!--") => comment.find("-->").map(|at| at + 3),
            tag if tag.starts_with('<') => tag.find('>').map(|at| at + 1),
            text => text.find('<'),
        };
        let (piece, behind) = rest.split_at(end.unwrap_or(rest.len()));
        rest = behind;
        if piece.starts_with("<!") {
            out.push_str(piece);
        } else if piece.starts_with('<') {
            rewrite_tag(piece, &mut say, &mut out);
        } else {
            put(piece, &mut say, &mut out);
        }
    }
    out
}

fn rewrite_tag(tag: &str, say: &mut impl FnMut(&str) -> Option<&'static str>, out: &mut String) {
    let mut name = "";
    for (n, part) in tag.split('"').enumerate() {
        if n > 0 {
            out.push('"');
        }
        let spoken = matches!(name, "lang" | "title" | "alt" | "aria-label" | "placeholder");
        match n % 2 == 1 && (spoken || name.starts_with("data-")) {
            true => put(part, say, out),
            false => out.push_str(part),
        }
        name = part.trim_end_matches('=').rsplit(char::is_whitespace).next().unwrap_or_default();
    }
}

/// A text with the space around it.
fn put(text: &str, say: &mut impl FnMut(&str) -> Option<&'static str>, out: &mut String) {
    let bare = text.trim();
    match say(bare).filter(|_| !bare.is_empty()) {
        Some(said) => out.push_str(&text.replacen(bare, said, 1)),
        None => out.push_str(text),
    }
}

/// English and simplified Chinese. An English phrase is a key: it stands in the code as here.
const PHRASES: &[(&str, &str)] = &[
    ("en", "zh-CN"),
    // ---- on every page ----
    ("Skip to the content", "跳到正文"),
    ("Site", "网站导航"),
    ("Live", "实时"),
    ("Gallery", "相册"),
    ("Notes", "笔记"),
    ("Status", "状态"),
    (
        "There are no notes here. Put Markdown files (.md) into this folder.",
        "这里还没有笔记。把 Markdown 文件（.md）放进这个文件夹即可。",
    ),
    // ---- the live page ----
    ("Live · pistream", "实时画面 · pistream"),
    ("Live picture of the camera", "摄像头的实时画面"),
    ("Connecting", "正在连接"),
    ("Live, picture by picture", "实时（逐张刷新）"),
    ("No signal from the camera", "摄像头没有信号"),
    ("Paused", "已暂停"),
    ("Connection lost", "连接已断开"),
    ("Connection lost, trying again", "连接已断开，正在重试"),
    ("{} fps", "{} 帧/秒"),
    ("{} viewer", "{} 人观看"),
    ("{} viewers", "{} 人观看"),
    ("Test picture", "测试画面"),
    ("Picture", "画面"),
    ("Photos", "照片"),
    ("Snapshot", "截图"),
    ("Save the picture of this moment on this device (S)", "把当前画面保存到本设备（S）"),
    ("Rotate", "旋转"),
    ("Turn by a quarter (R)", "旋转 90 度（R）"),
    ("Mirror", "镜像"),
    ("Mirror left and right (M)", "左右镜像（M）"),
    ("Clock", "时钟"),
    ("Show the camera's time (C)", "显示摄像头的时间（C）"),
    ("Full screen", "全屏"),
    ("Full screen (F)", "全屏（F）"),
    ("Last photo", "最新照片"),
    ("Show the last photo", "查看最新照片"),
    ("Photo", "拍照"),
    ("Take a photo and keep it in the gallery (P)", "拍照并存入相册（P）"),
    ("Interval", "定时"),
    ("Take a photo again and again", "每隔一段时间自动拍照"),
    ("Photo saved", "照片已保存"),
    ("The photo could not be taken.", "拍照失败。"),
    // ---- the gallery ----
    ("{} used by {} photo.", "已用 {}，共 {} 张照片。"),
    ("{} used by {} photos.", "已用 {}，共 {} 张照片。"),
    ("{} free.", "剩余空间 {}。"),
    ("There are no photos yet.", "还没有照片。"),
    ("Take a photo", "拍一张照片"),
    ("Kept", "已保留"),
    ("Select all", "全选"),
    ("{} selected", "已选 {} 张"),
    ("Selected photos", "已选照片"),
    ("Download", "下载"),
    ("Download all {} photos", "下载全部 {} 张照片"),
    ("Keep", "保留"),
    ("Stop keeping", "取消保留"),
    ("Never deleted to make room for new photos", "不会为了给新照片腾出空间而被删除"),
    ("Delete…", "删除…"),
    ("Deleted photos cannot be brought back.", "照片删除后无法恢复。"),
    ("Delete the selected photos", "删除所选照片"),
    ("Delete {} photo", "删除 {} 张照片"),
    ("Delete {} photos", "删除 {} 张照片"),
    ("Delete this photo", "删除这张照片"),
    ("Pages", "分页"),
    ("Newest", "最新"),
    ("Newer", "较新"),
    ("Page {} of {}", "第 {} 页，共 {} 页"),
    ("Older", "较旧"),
    ("Oldest", "最旧"),
    ("{} photo deleted.", "已删除 {} 张照片。"),
    ("{} photos deleted.", "已删除 {} 张照片。"),
    ("{} photo is kept from now on.", "{} 张照片现已保留。"),
    ("{} photos are kept from now on.", "{} 张照片现已保留。"),
    ("{} photo is no longer kept.", "{} 张照片已取消保留。"),
    ("{} photos are no longer kept.", "{} 张照片已取消保留。"),
    ("{} was already gone.", "{} 已经不存在。"),
    ("{} were already gone.", "{} 已经不存在。"),
    ("{} could not be changed; the log says why.", "未能处理 {}，原因见日志。"),
    ("{} more was gone or could not be changed.", "另有 {} 张已经不存在或未能处理。"),
    ("{} more were gone or could not be changed.", "另有 {} 张已经不存在或未能处理。"),
    ("No photo was selected.", "没有选择照片。"),
    // ---- the page of a photo ----
    ("Photo taken {}", "拍摄于 {} 的照片"),
    ("Open at full size", "查看原图"),
    ("Newer photo", "较新的照片"),
    ("Older photo", "较旧的照片"),
    ("The newest photo", "最新的照片"),
    // ---- interval photos ----
    ("Interval photos", "定时拍照"),
    ("A photo every {}, until stopped.", "每 {}拍一张，直到手动停止。"),
    ("A photo every {}, until {}.", "每 {}拍一张，直到 {}。"),
    ("{} photo saved.", "已保存 {} 张照片。"),
    ("{} photos saved.", "已保存 {} 张照片。"),
    ("{} skipped.", "跳过 {} 张。"),
    ("The last one failed: {}", "上一张拍摄失败：{}"),
    ("The one before it is not taken yet.", "前一张还没有拍完。"),
    ("Stop", "停止"),
    ("Start", "开始"),
    ("Start anew", "重新开始"),
    ("The camera can take a photo by itself, again and again.", "摄像头可以每隔一段时间自动拍照。"),
    ("A photo every", "拍摄间隔"),
    ("For", "持续时间"),
    ("until stopped", "直到手动停止"),
    ("{} second", "{} 秒"),
    ("{} seconds", "{} 秒"),
    ("{} minute", "{} 分钟"),
    ("{} minutes", "{} 分钟"),
    ("{} hour", "{} 小时"),
    ("{} hours", "{} 小时"),
    ("{} day", "{} 天"),
    ("{} days", "{} 天"),
    // ---- the status ----
    ("Camera", "摄像头"),
    ("Camera {}", "摄像头 {}"),
    ("Device", "设备"),
    ("Driver", "驱动"),
    ("Format", "格式"),
    ("Picture size", "画面尺寸"),
    ("Frames a second", "每秒帧数"),
    ("Frames", "帧数"),
    ("Frames dropped", "丢弃的帧数"),
    ("Viewers", "观看人数"),
    ("Space used", "已用空间"),
    ("Space free", "剩余空间"),
    ("Running for", "已运行"),
    ("Time", "时间"),
    ("Version", "版本"),
    ("The test picture: no camera is in use.", "测试画面：没有使用摄像头。"),
    ("No signal: {}", "没有信号：{}"),
    ("Off, because nobody watches.", "无人观看，已关闭。"),
    ("Working", "正常工作"),
    // ---- the camera's controls ----
    ("Controls", "控制"),
    ("Set the camera's controls", "调整摄像头的参数"),
    ("inactive", "未启用"),
    ("in use", "使用中"),
    ("only to be read", "只读"),
    ("not to be set here", "无法在此设置"),
    ("Set", "设置"),
    ("Reset", "重置"),
    ("Reset {}", "重置“{}”"),
    ("Reset all", "全部重置"),
    ("This camera has no controls.", "此摄像头没有可调参数。"),
    ("The test picture has no controls.", "测试画面没有可调参数。"),
    ("This source of pictures has no controls.", "此画面来源没有可调参数。"),
    ("The field id is missing: it names the control.", "缺少字段 id：它指明要设置的参数。"),
    (
        "The field id must be the number of a control, not {}.",
        "字段 id 必须是参数的编号，不能是 {}。",
    ),
    (
        "The field value is missing: what the control is to be set to.",
        "缺少字段 value：参数要设成的值。",
    ),
    ("The camera has no control {}.", "摄像头没有参数 {}。"),
    (
        "The control {} must be a whole number from {} to {}, not {}.",
        "“{}”必须是 {} 到 {} 之间的整数，不能是 {}。",
    ),
    ("The control {} must be 0 or 1, not {}.", "“{}”必须是 0 或 1，不能是 {}。"),
    ("The control {} must be one of {}, not {}.", "“{}”必须是其中之一：{}，不能是 {}。"),
    ("The control {} can have the bits {} only, not {}.", "“{}”只能使用这些位：{}，不能是 {}。"),
    ("The control {} must be a text of {} to {} bytes.", "“{}”必须是 {} 到 {} 字节的文字。"),
    ("The control {} can only be read.", "“{}”只能读取。"),
    ("The control {} cannot be changed while it is in use.", "“{}”正在使用，现在不能更改。"),
    ("The control {} is inactive: others decide about it now.", "“{}”现在未启用，由其他参数决定。"),
    (
        "The control {} is inactive as long as {} is {}: change that first.",
        "“{}”现在未启用，因为“{}”是“{}”：请先更改它。",
    ),
    ("The control {} has a type that cannot be set here.", "“{}”的类型无法在此设置。"),
    ("The control {} has no value to go back to.", "“{}”没有默认值。"),
    ("The camera refuses to set {} to {}: {}.", "摄像头拒绝把“{}”设为 {}：{}。"),
    ("it does not take this value", "不接受这个值"),
    ("it does not allow that now", "现在不允许"),
    ("it is busy", "正忙"),
    ("The camera failed to set {} to {}: {}.", "摄像头未能把“{}”设为 {}：{}。"),
    ("The camera is not there: {}.", "摄像头不在：{}。"),
    ("The camera does not tell its controls: {}.", "无法读取摄像头的参数：{}。"),
    (
        "The camera does not answer; it may be busy or hang. Try again later.",
        "摄像头没有回应，可能正忙或已停止响应。请稍后再试。",
    ),
    ("What is set here will be lost at the end: {}.", "这里的设置在程序结束后会丢失：{}。"),
    ("nothing", "空"),
    ("on", "开"),
    ("off", "关"),
    // What Linux calls the controls that most cameras have.
    ("User Controls", "画面"),
    ("Camera Controls", "镜头与曝光"),
    ("Brightness", "亮度"),
    ("Contrast", "对比度"),
    ("Saturation", "饱和度"),
    ("Hue", "色调"),
    ("Hue, Automatic", "自动色调"),
    ("Gamma", "伽马"),
    ("Gain", "增益"),
    ("Gain, Automatic", "自动增益"),
    ("Sharpness", "锐度"),
    ("Backlight Compensation", "背光补偿"),
    ("Power Line Frequency", "电源频率"),
    ("Disabled", "关闭"),
    ("White Balance, Automatic", "自动白平衡"),
    ("White Balance Temperature", "白平衡色温"),
    ("Auto Exposure", "自动曝光"),
    ("Auto Mode", "自动"),
    ("Manual Mode", "手动"),
    ("Shutter Priority Mode", "快门优先"),
    ("Aperture Priority Mode", "光圈优先"),
    ("Exposure Time, Absolute", "曝光时间"),
    ("Exposure, Dynamic Framerate", "曝光时可降低帧率"),
    ("Focus, Absolute", "对焦"),
    ("Focus, Automatic Continuous", "连续自动对焦"),
    ("Zoom, Absolute", "变焦"),
    ("Pan, Absolute", "水平转动"),
    ("Tilt, Absolute", "垂直转动"),
    ("Iris, Absolute", "光圈"),
    // ---- errors ----
    ("Bad Request", "请求有误"),
    ("Unauthorized", "需要登录"),
    ("Forbidden", "禁止访问"),
    ("Not Found", "找不到页面"),
    ("Method Not Allowed", "不支持此操作"),
    ("Request Timeout", "请求超时"),
    ("Conflict", "发生冲突"),
    ("Content Too Large", "内容过大"),
    ("Range Not Satisfiable", "请求的范围无效"),
    ("Expectation Failed", "无法满足请求的条件"),
    ("Misdirected Request", "网址有误"),
    ("Too Many Requests", "请求过多"),
    ("Request Header Fields Too Large", "请求头过大"),
    ("Internal Server Error", "服务器内部错误"),
    ("Not Implemented", "尚不支持"),
    ("Service Unavailable", "服务暂不可用"),
    ("Insufficient Storage", "存储空间不足"),
    ("There is no such page.", "没有这个页面。"),
    ("This is a folder.", "这是一个文件夹。"),
    ("The notes are there.", "笔记在那里。"),
    ("This can only be looked at.", "这里只能查看，不能修改。"),
    (
        "This site is not known by that name. If it should be, start pistream with --host-name and \
        the name.",
        "本站不使用这个名称。如需使用，请在启动 pistream 时用 --host-name 指定该名称。",
    ),
    ("The parameter {} must be a number above zero.", "参数 {} 必须是大于零的数。"),
    ("The parameter bake must be 0 or 1.", "参数 bake 必须是 0 或 1。"),
    ("The parameter max_age must be a number of milliseconds.", "参数 max_age 必须是毫秒数。"),
    (
        "This page cannot be read from the disk; the log says why.",
        "无法从磁盘读取此页面，原因见日志。",
    ),
    (
        "This note is larger than 1 MiB; with ?raw it can be had as it is.",
        "这篇笔记超过 1 MiB；在网址后加上 ?raw 可查看原文。",
    ),
    ("The file does not have these bytes.", "文件中没有所请求的范围。"),
    ("There is no room; try again later.", "连接已满，请稍后再试。"),
    ("There is too much to do; try again later.", "服务器繁忙，请稍后再试。"),
    ("There are too many viewers; try again later.", "观看人数过多，请稍后再试。"),
    (
        "Others see the picture in too many sizes; ask for one of theirs.",
        "其他人正在观看的画面尺寸已过多，请使用其中一种。",
    ),
    ("The camera gave no picture in time.", "摄像头未能及时提供画面。"),
    ("The camera gives no picture: {}.", "摄像头没有画面：{}。"),
    ("Camera {} gives no picture: {}.", "摄像头 {} 没有画面：{}。"),
    ("There is no camera {}; the last one is {}.", "没有摄像头 {}，最后一个是 {}。"),
    (
        "The parameter camera must be the number of a camera, not {}.",
        "参数 camera 必须是摄像头的编号，不能是 {}。",
    ),
    ("The request did not come in time.", "请求未能及时到达。"),
    ("This is not an HTTP request.", "这不是 HTTP 请求。"),
    ("The request's head is larger than 8 KiB.", "请求头超过 8 KiB。"),
    ("The request has more than 64 header fields.", "请求头超过 64 个字段。"),
    ("The request is malformed.", "请求的格式有误。"),
    ("This method is not known here.", "不支持这种请求方法。"),
    ("This expectation cannot be met.", "无法满足 Expect 字段的要求。"),
    ("A header field is malformed or stands twice.", "某个请求头字段格式有误或重复出现。"),
    ("A header field is malformed.", "某个请求头字段格式有误。"),
    ("The body's length is ambiguous.", "请求正文的长度不明确。"),
    ("Only the coding chunked is known here.", "只支持 chunked 传输编码。"),
    ("The body's length is not a number.", "请求正文的长度不是数字。"),
    ("The request's body is larger than 1 MiB.", "请求正文超过 1 MiB。"),
    ("The request's target is malformed.", "请求的地址格式有误。"),
    ("The request names no host.", "请求没有指明主机。"),
    ("The host's name is malformed.", "主机名格式有误。"),
    ("The body's trailer is too long.", "请求正文的尾部过长。"),
    ("The body's chunks are malformed.", "请求正文的分块格式有误。"),
    ("This is a button, not a page: it wants POST.", "这是按钮而不是网页：请用 POST 请求。"),
    ("Only pages of this site may do that.", "只有本站的网页才能执行此操作。"),
    ("A name in the form is not that of a photo.", "表单中有不是照片的文件名。"),
    ("The field every must be {}.", "字段 every 必须是：{}。"),
    ("a time from 1s to 24h, such as 30s or 5m", "1s 到 24h 之间的时间，例如 30s 或 5m"),
    (
        "The field until must be a time from now, such as 8h or 3d, that is not shorter than \
         every and not longer than 366d.",
        "字段 until 必须是从现在算起的时长，例如 8h 或 3d，不短于 every，也不超过 366d。",
    ),
    ("There is no such photo.", "没有这张照片。"),
    ("The photo is not saved: {}.", "照片未能保存：{}。"),
    ("The photo is not deleted: {}.", "照片未能删除：{}。"),
    ("Nothing is deleted for good: {}.", "未能彻底删除：{}。"),
    ("The mark is not saved: {}.", "标记未能保存：{}。"),
    ("the disk is full", "磁盘已满"),
    ("the disk is read-only", "磁盘是只读的"),
    ("pistream may not write to the folder", "pistream 没有写入该文件夹的权限"),
    (
        "the disk has less room than --keep-free asks for, and there are not enough photos that \
         may be deleted",
        "剩余空间少于 --keep-free 的要求，而且可以删除的照片不够",
    ),
    ("Too many photos at once.", "同时拍照的请求过多。"),
    ("This form is too large.", "表单内容过大。"),
    ("These are too many photos at once.", "一次选择的照片过多。"),
    ("There are too many downloads at once; try again later.", "同时下载的人过多，请稍后再试。"),
    ("The last minutes", "最近几分钟"),
    ("Memory", "内存"),
    ("Address", "地址"),
    ("Frames missed", "错过的帧"),
    ("Age of the picture", "画面延迟"),
    ("This site is ending.", "网站正在关闭。"),
    ("The site is in that folder.", "网站在该目录下。"),
    ("This site wants a name and a password.", "本网站需要用户名和密码。"),
    ("Too many wrong passwords; try again later.", "密码错误次数过多，请稍后再试。"),
    ("You may look at this site, and change nothing.", "您可以浏览本网站，但不能更改任何内容。"),
    ("It is done.", "已完成。"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::fs;
    use std::path::Path;

    const LIVE: &str = include_str!("../../www/index.html");

    #[test]
    fn the_language_is_the_one_that_the_visitor_likes_better() {
        let check = |accept: &str, lang| assert_eq!(Lang::wanted(accept), lang, "{accept:?}");
        for accept in [
            "",
            "*",
            "en-GB,en;q=0.9",
            "de-DE,de;q=0.9,en;q=0.8",
            "fr",
            "en, zh",
            "zh;q=0.5,en;q=0.6",
            "zh;q=0",
            "zh;q=x",
            "zh;q=-1",
            "zh;q=2",
            "*,zh;q=0.5",
            "zhx",
            ";q=1,,",
        ] {
            check(accept, Lang::English);
        }
        for accept in [
            "zh",
            "ZH-Hant-TW",
            "zh-CN,zh;q=0.9,en;q=0.8",
            "zh,en",
            "de, zh;q=0.3, en;q=0.2",
            "en;q=0.8 , zh ; q = 0.9",
            "zh;q=0.1",
            "zh,*;q=0.5",
        ] {
            check(accept, Lang::Chinese);
        }
        assert_eq!((Lang::English.tag(), Lang::Chinese.tag()), ("en", "zh-CN"));
    }

    #[test]
    fn phrases_stand_once_and_have_the_same_places() {
        let mut seen = HashSet::new();
        for (english, chinese) in PHRASES {
            assert!(seen.insert(english), "{english:?} stands twice");
            let places = |text: &str| text.matches("{}").count();
            assert_eq!(places(english), places(chinese), "{english:?}");
            assert!(!chinese.is_empty() && english.trim() == *english, "{english:?}");
            assert!(!english.contains(['<', '>', '&', '"']), "{english:?} would be escaped");
        }
    }

    #[test]
    fn places_are_filled_with_anything() {
        let (english, chinese) = (Lang::English, Lang::Chinese);
        assert_eq!(english.fill("Page {} of {}", &["{}", "3"]), "Page {} of 3");
        assert_eq!(chinese.fill("Page {} of {}", &["2", "3"]), "第 2 页，共 3 页");
        let viewers = |lang: Lang, n| lang.count(n, "{} viewer", "{} viewers");
        assert_eq!(
            (viewers(english, 1), viewers(english, 0)),
            ("1 viewer".into(), "0 viewers".into())
        );
        assert_eq!(viewers(chinese, 2), "2 人观看");
        let made = "The camera gives no picture: open /dev/video0: No such file.";
        assert_eq!(english.sentence(made), made);
        assert_eq!(chinese.sentence(made), "摄像头没有画面：open /dev/video0: No such file。");
        assert_eq!(chinese.sentence("There is no such page."), "没有这个页面。");
        assert_eq!(chinese.sentence("Who knows."), "Who knows.");
        let made = "The control Gain must be a whole number from -5 to 5, not from 1 to 2.";
        assert_eq!(english.sentence(made), made);
        assert_eq!(chinese.sentence(made), "“增益”必须是 -5 到 5 之间的整数，不能是 from 1 to 2。");
        let made = "The camera refuses to set Knob to 7: it is busy.";
        assert_eq!(chinese.sentence(made), "摄像头拒绝把“Knob”设为 7：正忙。");
    }

    #[test]
    fn the_live_page_is_wholly_chinese() {
        assert_eq!(Lang::English.page(LIVE), LIVE);
        let page = Lang::Chinese.page(LIVE);
        for part in ["<html lang=\"zh-CN\">", ">实时</a>", "aria-label=\"摄像头的实时画面\""]
        {
            assert!(page.contains(part), "no {part}: {page}");
        }
        assert_eq!(page.matches('<').count(), LIVE.matches('<').count());
        let mut missing = Vec::new();
        rewrite(LIVE, |text| {
            let known = Lang::Chinese.find(text).is_some() || text == "pistream";
            if !known && text.contains(char::is_alphabetic) {
                missing.push(text.to_owned());
            }
            None
        });
        assert!(missing.is_empty(), "{missing:#?}");
    }

    /// Our sources without their tests, each string literal that runs over lines joined.
    fn sources() -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if !path.ends_with("phrases.rs") {
                    let source = fs::read_to_string(path).unwrap();
                    let code = source.split("\n#[cfg(test)]\nmod tests").next().unwrap();
                    found.push(code.split("\\\n").map(str::trim_start).collect());
                }
            }
        }
        assert!(found.len() > 15, "the tree is there");
        found
    }

    /// The string literals that stand right behind `before`, or on the next line.
    fn literals<'a>(source: &'a str, before: &str) -> Vec<&'a str> {
        let behind = source.split(before).skip(1);
        behind.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()).collect()
    }

    #[test]
    fn what_the_pages_say_has_its_chinese() {
        let mut seen = 0;
        for source in sources() {
            for before in ["say(", "fill(", "count("] {
                for phrase in literals(&source, before) {
                    assert!(Lang::Chinese.find(phrase).is_some(), "no Chinese for {phrase:?}");
                    seen += 1;
                }
            }
            for call in source.split(".count(").skip(1) {
                for phrase in call.split(')').next().unwrap().split('"').skip(1).step_by(2) {
                    assert!(Lang::Chinese.find(phrase).is_some(), "no Chinese for {phrase:?}");
                }
            }
        }
        assert!(seen > 5, "the phrases were found: {seen}");
    }

    /// What an error says is a literal that begins as a sentence and ends as one.
    #[test]
    fn what_errors_say_has_its_chinese() {
        let mut seen = 0;
        let refuses =
            |source: &&String| ["Status::", "Refusal::"].iter().any(|s| source.contains(s));
        for source in sources().iter().filter(refuses) {
            let code: String = source.lines().filter(|l| !l.trim().starts_with("//")).collect();
            for literal in code.split('"') {
                let capital = literal.starts_with(|c: char| c.is_ascii_uppercase());
                let sentence = capital && literal.ends_with('.') && literal.contains(' ');
                let reason = literal.get(..4).filter(|code| {
                    code.starts_with(['4', '5']) && code[..3].parse::<u16>().is_ok()
                });
                let english = match (sentence, reason) {
                    (true, _) => Cow::Borrowed(literal),
                    (_, Some(_)) => Cow::Borrowed(&literal[4..]),
                    _ => continue,
                };
                let said = Lang::Chinese.sentence(&english);
                assert_ne!(said, english, "no Chinese");
                seen += 1;
            }
        }
        assert!(seen > 40, "the sentences were found: {seen}");
    }
}
