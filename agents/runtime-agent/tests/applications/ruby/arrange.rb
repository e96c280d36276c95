# Makes a home of gems of Debian's packages, each extracted into a folder of its own: ruby arrange.rb FOLDER HOME
require "fileutils"

folder, home = ARGV
gems, specifications = File.join(home, "gems"), File.join(home, "specifications")
FileUtils.mkdir_p([gems, specifications])
Dir.glob(File.join(folder, "*")).sort.each do |package|
  file = Dir.glob(File.join(package, "usr/share/rubygems-integration/*/specifications/*.gemspec")).max_by(&:size)
  file = Dir.glob(File.join(package, "usr/share/rubygems-integration/*/specifications/*.gemspec")).min_by(&:size) if package.include?("concurrent")
  file ||= Dir.glob(File.join(package, "usr/**/specifications/*.gemspec")).first
  name = File.basename(file, ".gemspec")
  # Its extensions are built.
  built = File.readlines(file).reject { |line| line.include?(".extensions = ") || line.start_with?("# stub: ext/") }
  File.write(File.join(specifications, File.basename(file)), built.join)
  to = File.join(gems, name)
  whole = Dir.glob(File.join(package, "usr/**/gems/#{name}")).first
  FileUtils.cp_r(whole, to) if whole && File.directory?(whole)
  FileUtils.mkdir_p(File.join(to, "lib"))
  library = File.join(package, "usr/lib/ruby/vendor_ruby")
  FileUtils.cp_r(File.join(library, "."), File.join(to, "lib")) if File.directory?(library)
  Dir.glob(File.join(package, "usr/lib/*/ruby/vendor_ruby/*")).each { |own| FileUtils.cp_r(File.join(own, "."), File.join(to, "lib")) }
  Dir.glob(File.join(package, "usr/lib/**/#{name}/**/*.so")).each do |object|
    inside = object[/\/#{Regexp.escape(name)}\/(.*)\z/, 1].sub(%r{\Alib/}, "")
    target = File.join(to, "lib", inside)
    FileUtils.mkdir_p(File.dirname(target))
    FileUtils.cp(object, target) unless File.exist?(target)
  end
  # Programs that Debian has in its own place only.
  Dir.glob(File.join(package, "usr/bin/*")).each do |program|
    target = File.join(to, "bin", File.basename(program))
    FileUtils.mkdir_p(File.dirname(target))
    FileUtils.cp(program, target) unless File.exist?(target)
  end
end
exit unless Dir.exist?(File.join(gems, "rainbow-3.1.1"))
# The same gem in another version.
FileUtils.cp_r(File.join(gems, "rainbow-3.1.1"), File.join(gems, "rainbow-2.9.9"))
text = File.read(File.join(specifications, "rainbow-3.1.1.gemspec")).gsub("3.1.1", "2.9.9")
File.write(File.join(specifications, "rainbow-2.9.9.gemspec"), text)
