// A tooth's surface from the page's JSON, with its shading, rim, shadow and number.
const toothMeshes = (() => {
  "use strict";

  // A shadow is drawn as its rim: see-through where it faces the viewer, so that the colours under it stay true.
  const SHADOW = {
    vertexShader: `varying vec3 facing;
      void main() {
        facing = normalMatrix * normal;
        gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
      }`,
    fragmentShader: `varying vec3 facing;
      void main() {
        float rim = 1.0 - abs(normalize(facing).z);
        gl_FragColor = vec4(0.08, 0.32, 0.75, 0.05 + 0.85 * rim * rim);
      }`,
    transparent: true,
    depthWrite: false,
  };
  // The chosen tooth's rim: the same surface, a little larger, its inside only.
  const RIM = 1.09;

  function bytes(text) {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  }

  // Corners of triangles, as numbers of vertices.
  function facesOf(text) {
    return new Uint16Array(bytes(text).buffer);
  }

  function geometryOf(tooth, faces) {
    const steps = new Int16Array(bytes(tooth.vertices).buffer);
    const positions = new Float32Array(steps.length);
    for (let i = 0; i < steps.length; i++) positions[i] = steps[i] * tooth.step + tooth.centre[i % 3];
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(positions, 3));
    geometry.setIndex(new THREE.BufferAttribute(faces, 1));
    geometry.computeVertexNormals();
    geometry.setAttribute("color", new THREE.BufferAttribute(shadeOf(geometry), 3));
    geometry.computeBoundingBox();
    return geometry;
  }

  // Fissures a little darker, by the depth of a vertex below its neighbours, relative to their distance.
  function shadeOf(geometry) {
    const p = geometry.attributes.position.array, n = geometry.attributes.normal.array;
    const index = geometry.index.array, count = p.length / 3;
    let valley = new Float32Array(count);
    const degree = new Float32Array(count);
    const eachEdge = (visit) => {
      for (let f = 0; f < index.length; f += 3)
        for (let k = 0; k < 3; k++) visit(index[f + k], index[f + ((k + 1) % 3)]);
    };
    eachEdge((a, b) => {
      const x = p[3 * b] - p[3 * a], y = p[3 * b + 1] - p[3 * a + 1], z = p[3 * b + 2] - p[3 * a + 2];
      const length = Math.hypot(x, y, z) || 1;
      valley[a] += (x * n[3 * a] + y * n[3 * a + 1] + z * n[3 * a + 2]) / length;
      degree[a] += 1;
    });
    for (let i = 0; i < count; i++) valley[i] /= degree[i] || 1;
    for (let round = 0; round < 2; round++) {
      const spread = Float32Array.from(valley);
      eachEdge((a, b) => (spread[a] += valley[b]));
      for (let i = 0; i < count; i++) spread[i] /= degree[i] + 1;
      valley = spread;
    }
    const shade = new Float32Array(p.length);
    for (let i = 0; i < count; i++) shade.fill(Math.min(1, Math.max(0.35, 1 - 2.2 * Math.max(valley[i], -0.02))), 3 * i, 3 * i + 3);
    return shade;
  }

  // The number of a tooth as a sprite, dark on a light edge: readable on any colour.
  function labelOf(fdi) {
    const drawn = document.createElement("canvas");
    drawn.width = 96;
    drawn.height = 64;
    const pen = drawn.getContext("2d");
    pen.font = "600 44px system-ui, 'DejaVu Sans', sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineWidth = 10;
    pen.lineJoin = "round";
    pen.strokeStyle = "rgba(255, 255, 255, 0.9)";
    pen.strokeText(String(fdi), 48, 34);
    pen.fillStyle = "#13202f";
    pen.fillText(String(fdi), 48, 34);
    const texture = new THREE.CanvasTexture(drawn);
    texture.colorSpace = THREE.SRGBColorSpace;
    const sprite = new THREE.Sprite(new THREE.SpriteMaterial({ map: texture }));
    sprite.renderOrder = 3;
    return sprite;
  }

  // The mark of a point, a red disc that nothing hides.
  function dotOf(position) {
    const drawn = document.createElement("canvas");
    drawn.width = drawn.height = 32;
    const pen = drawn.getContext("2d");
    pen.fillStyle = "#d0202a";
    pen.beginPath();
    pen.arc(16, 16, 15, 0, 2 * Math.PI);
    pen.fill();
    const texture = new THREE.CanvasTexture(drawn);
    texture.colorSpace = THREE.SRGBColorSpace;
    const sprite = new THREE.Sprite(new THREE.SpriteMaterial({ map: texture, depthTest: false }));
    sprite.scale.setScalar(1.4);
    sprite.position.fromArray(position);
    sprite.renderOrder = 10;
    return sprite;
  }

  function outlineOf(geometry) {
    const outline = new THREE.Mesh(geometry, new THREE.MeshBasicMaterial({ color: 0x1668c7, side: THREE.BackSide }));
    outline.scale.setScalar(RIM);
    outline.position.copy(geometry.boundingBox.getCenter(new THREE.Vector3())).multiplyScalar(1 - RIM);
    outline.visible = false;
    return outline;
  }

  function shadowOf(geometry) {
    const shadow = new THREE.Mesh(geometry, new THREE.ShaderMaterial(SHADOW));
    shadow.renderOrder = 2;
    return shadow;
  }

  return { facesOf, geometryOf, dotOf, labelOf, outlineOf, shadowOf };
})();
