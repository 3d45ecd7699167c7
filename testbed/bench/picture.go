package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"strings"
)

// Sizes of the picture, in pixels.
const (
	pictureWidth = 900
	labelWidth   = 170
	plotWidth    = 500
	rowHeight    = 24
)

// picture is an SVG that is written line by line, from top to bottom.
type picture struct {
	body bytes.Buffer
	y    int
}

func (p *picture) text(x int, class, format string, args ...any) {
	fmt.Fprintf(&p.body, `<text x="%d" y="%d" class="%s">`, x, p.y+15, class)
	_ = xml.EscapeText(&p.body, fmt.Appendf(nil, format, args...)) // a buffer takes everything
	p.body.WriteString("</text>\n")
}

func (p *picture) title(format string, args ...any) {
	p.y += 12
	p.text(10, "title", format, args...)
	p.y += 28
}

func (p *picture) bar(x, width float64, class string) {
	fmt.Fprintf(&p.body, `<rect x="%.1f" y="%d" width="%.1f" height="14" class="%s"/>`+"\n", x, p.y+4, max(width, 1), class)
}

// cpuBars draws the processor time of every case that has one.
func (p *picture) cpuBars(r Report) {
	var list []summary
	for _, group := range []string{throughput, faults, real, rivals} {
		list = append(list, r.of(group)...)
	}
	if len(list) == 0 {
		return
	}
	p.title("CPU-seconds per million events (less is better; the thin line spans all runs)")
	most := 0.0
	for _, s := range list {
		v := s.values(cpu)
		most = max(most, v[len(v)-1])
	}
	scale := plotWidth / most
	for _, s := range list {
		v := s.values(cpu)
		p.text(10, "label", "%s", s.Case)
		class := "bar"
		if s.Group == rivals && s.Command != "" || strings.HasPrefix(s.Case, baselineCase) {
			class = "other"
		}
		p.bar(labelWidth, s.median(cpu)*scale, class)
		fmt.Fprintf(&p.body, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" class="span"/>`+"\n",
			labelWidth+v[0]*scale, p.y+11, labelWidth+v[len(v)-1]*scale, p.y+11)
		p.text(labelWidth+plotWidth+12, "label", "%.2f   lost %s, twice %s", s.median(cpu), s.most(missing), s.most(twice))
		p.y += rowHeight
	}
}

// latencyChart draws the quantiles of every latency case on a logarithmic axis.
func (p *picture) latencyChart(r Report) {
	list := r.of(latencies)
	if len(list) == 0 {
		return
	}
	p.title("Milliseconds from produced to stored: p50, p99, p99.9, greatest (logarithmic)")
	least, most := math.Inf(1), 1.0
	for _, s := range list {
		least, most = min(least, s.median(p50)), max(most, s.median(greatest))
	}
	low := math.Floor(math.Log10(max(least, 0.1)))
	high := math.Ceil(math.Log10(most*1.01) + 1e-9)
	x := func(ms float64) float64 {
		return labelWidth + plotWidth*(math.Log10(max(ms, 0.1))-low)/(high-low)
	}
	top := p.y
	for _, s := range list {
		p.text(10, "label", "%s", s.Case)
		p.bar(x(s.median(p50)), x(s.median(greatest))-x(s.median(p50)), "rest")
		p.bar(x(s.median(p50)), x(s.median(p99))-x(s.median(p50)), "bar")
		fmt.Fprintf(&p.body, `<circle cx="%.1f" cy="%d" r="4" class="mark"/>`+"\n", x(s.median(p999)), p.y+11)
		p.text(labelWidth+plotWidth+12, "label", "%.0f, %.0f, %.0f, %.0f", s.median(p50), s.median(p99), s.median(p999), s.median(greatest))
		p.y += rowHeight
	}
	for e := low; e <= high; e++ {
		at := x(math.Pow(10, e))
		fmt.Fprintf(&p.body, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" class="grid"/>`+"\n", at, top, at, p.y)
		p.text(int(at)-8, "small", "%g", math.Pow(10, e))
	}
	p.y += rowHeight
	p.text(labelWidth, "small", "bar: p50 to p99; pale: to the greatest; dot: p99.9")
	p.y += rowHeight
}

// draw writes the report as an SVG.
func (r Report) draw(path string) error {
	var p picture
	p.cpuBars(r)
	p.latencyChart(r)
	p.y += 6
	for _, setup := range r.setups() {
		for _, line := range setup.lines() {
			p.text(10, "small", "%s", line)
			p.y += 16
		}
	}
	p.y += 12
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="weir's benchmark">
<style>
text { font: 13px system-ui, sans-serif; fill: #1f2933 } .title { font-weight: 600 } .small { font-size: 11px; fill: #52606d }
.bar { fill: #2f6f9f } .rest { fill: #b9d3e6 } .other { fill: #a9814b } .mark { fill: #c2452d }
.span { stroke: #1f2933; stroke-width: 1.5 } .grid { stroke: #9aa5b1; stroke-width: .5; stroke-dasharray: 3 3 }
</style>
<rect width="100%%" height="100%%" fill="#fff"/>
`, pictureWidth, p.y, pictureWidth, p.y)
	out.Write(p.body.Bytes())
	out.WriteString("</svg>\n")
	return os.WriteFile(path, out.Bytes(), 0o644)
}
